"""A name outlives what it does not depend on: where modules lie, options that came later, how a number was typed."""

import re
from dataclasses import asdict, replace
from functools import reduce

import pytest
import yaml
from hydra import compose, initialize_config_module

from distill.config import schema as config
from distill.config.naming import canonical, last_part, without_defaults
from distill.pipeline.reuse import refuse_another
from distill.runs.config import RunConfig
from distill.runs.folder import RunFolder

# Two config.yaml as run folders hold them, of modules that have since been elsewhere

ONE = """\
seed: 3
generations: 1
plugins: []
data: {_target_: former.place.ferplus, root: /faces, protocol: majority, train_protocol: null, target: votes,
  test_subset: null, subset_dir: null, limit: null, verify: false}
teacher: {train: {epochs: 7, batch_size: 16, monitor: valid/top1_accuracy, precision: auto, max_grad_norm: null, ema_decay: 0.998,
    class_balance_power: 0.0, mixup: 0.0, log_every_n_steps: 50}, augment: {seed: 0, num_views: 0, rotate: 15, scale_min: 0.8,
      scale_max: 1.08,
    shift: 0.1, flip: 0.5, brightness: 0.2, contrast: 0.25, erase: 0.5, erase_min: 0.1, erase_max: 0.4, autoaugment: false},
  optimizer: {name: adamw, lr: 0.0008, weight_decay: 0.05, betas: [0.9, 0.999], eps: 1.0e-08, decay_biases: false},
  schedule: {_target_: former.place.Cosine, warmup: 1.0, final: 0.0}, loss: {ce: {_target_: former.place.CrossEntropy,
      weight: 1.0, target: soft, class_weights: null, beta: 0.9999, label_smoothing: 0.0, apply_to: heads, head_reduction: mean,
      head_weights: null}}, _target_: former.place.TimmTeacher, name: resnet50, size: 64, channels: 3,
  mean: null, std: null, weights: null, pretrained: null, drop_rate: 0.0, drop_path_rate: 0.0, options: {}, cache: true,
  precision: auto, seed: 0}
student: {_target_: former.place.Cern, size: 48, width: 1.0, pooling: max_avg, mean: 0.5, std: 0.25, variant: full, global_scale: 1.0,
  normalize_weights: false, weights: null, lr_scale: {classifiers.: 10, base.: 0.3, region_net.: 0.3, eca.: 0.3}}
loss: {ce: {_target_: former.place.CrossEntropy, weight: 0.1, target: soft, class_weights: null, beta: 0.9999,
    label_smoothing: 0.0, apply_to: heads, head_reduction: mean, head_weights: null}, kd: {_target_: former.place.KnowledgeDistillation,
    weight: 0.9, temperature: 4, scale_t2: true, form: kl, apply_to: heads, head_reduction: mean, standardize: false}}
phases: null
optimizer: {name: adamw, lr: 0.001, weight_decay: 0.05, betas: [0.9, 0.999], eps: 1.0e-08, decay_biases: false}
schedule: {_target_: former.place.Cosine, warmup: 0.5, final: 0.0}
logger: {_target_: former.place.Wandb, project: fer-distill, entity: null, mode: auto, tags: []}
train: {epochs: 8, batch_size: 32, monitor: valid/top1_accuracy, precision: auto, max_grad_norm: null, ema_decay: 0.998,
  class_balance_power: 0.0,
  mixup: 0.0, log_every_n_steps: 50, threads: null, device: auto}
augment: {seed: 0, num_views: 8, rotate: 15.0, scale_min: 0.8, scale_max: 1.08, shift: 0.1, flip: 0.5, brightness: 0.2, contrast: 0.25,
  erase: 0.5, erase_min: 0.1, erase_max: 0.4, autoaugment: false}
eval: {tta: plain, robustness: [], severities: [1, 3, 5], cka: false}
checkpoint: {every_steps: 200}
paths: {store: store, runs: runs, run: null}
experiment: null
debug: null
"""

ENSEMBLE = """\
seed: 0
generations: 1
plugins: []
data: {_target_: former.place.procedural, seed: 0, size: 48, train: 2400, valid: 600, test: 600, intensity: 0.7,
  mixture: 0.15, occlusion: 0.1, pose: 0.5, light: 0.5}
teacher: {members: {first: {train: {epochs: 7, batch_size: 16, monitor: valid/top1_accuracy, precision: auto, max_grad_norm: null,
        ema_decay: 0.998, class_balance_power: 0.0, mixup: 0.0, log_every_n_steps: 50}, augment: {seed: 0, num_views: 0, rotate: 15,
          scale_min: 0.8,
        scale_max: 1.08, shift: 0.1, flip: 0.5, brightness: 0.2, contrast: 0.25, erase: 0.5, erase_min: 0.1, erase_max: 0.4,
        autoaugment: false}, optimizer: {name: adamw, lr: 0.0008, weight_decay: 0.05, betas: [0.9, 0.999], eps: 1.0e-08,
        decay_biases: false}, schedule: {_target_: former.place.Cosine, warmup: 1.0, final: 0.0}, loss: {ce: {
          _target_: former.place.CrossEntropy, weight: 1.0, target: soft, class_weights: null, beta: 0.9999,
          label_smoothing: 0.0, apply_to: heads, head_reduction: mean, head_weights: null}}, _target_: former.place.TimmTeacher,
      name: resnet50, size: 48, channels: 3, mean: null, std: null, weights: null, pretrained: null, drop_rate: 0.0,
      drop_path_rate: 0.0, options: {}, cache: true, precision: auto, seed: 0}, second: {train: {epochs: 10, batch_size: 32,
        monitor: valid/top1_accuracy, precision: auto, max_grad_norm: null, ema_decay: 0.998, class_balance_power: 0.0, mixup: 0.0,
            log_every_n_steps: 50},
      augment: {seed: 0, num_views: 0, rotate: 15, scale_min: 0.8, scale_max: 1.08, shift: 0.1, flip: 0.5, brightness: 0.2,
        contrast: 0.25, erase: 0.5, erase_min: 0.1, erase_max: 0.4, autoaugment: false}, optimizer: {name: adamw,
        lr: 0.0008, weight_decay: 0.05, betas: [0.9, 0.999], eps: 1.0e-08, decay_biases: false}, schedule: {_target_: former.place.Cosine,
        warmup: 1.0, final: 0.0}, loss: {ce: {_target_: former.place.CrossEntropy, weight: 1.0, target: soft,
          class_weights: null, beta: 0.9999, label_smoothing: 0.0, apply_to: heads, head_reduction: mean, head_weights: null}},
      _target_: former.place.TimmTeacher, name: mobilenetv3_large_100, size: 96, channels: 3, mean: null,
      std: null, weights: null, pretrained: null, drop_rate: 0.0, drop_path_rate: 0.0, options: {}, cache: true,
      precision: auto, seed: 0}}, _target_: former.place.Ensemble, average: probabilities, weights: null,
  cache: true, precision: auto, augment: {rotate: 5, scale_min: 0.95, scale_max: 1.05, shift: 0.03, brightness: 0.1,
    contrast: 0.1, erase: 0}}
student: {_target_: former.place.MicroExpNet, size: 84, width: XXS, pooling: both, dropout: 0.0, init: xavier,
  mean: 0.5, std: 0.25, weights: null, lr_scale: null}
loss: {dist: {_target_: former.place.Dist, weight: 0.2, beta: 1.0, gamma: 0.5, temperature: 1.0, scale_t2: true,
    apply_to: heads}}
phases: null
optimizer: {name: sgd, lr: 0.05, weight_decay: 0.0005, momentum: 0.9, nesterov: true, decay_biases: false}
schedule: {_target_: former.place.Cosine, warmup: 0.5, final: 0.0}
logger: {_target_: former.place.Wandb, project: fer-distill, entity: null, mode: auto, tags: []}
train: {epochs: 6, batch_size: 16, monitor: valid/top1_accuracy, precision: auto, max_grad_norm: null, ema_decay: 0.998,
  class_balance_power: 0.0,
  mixup: 0.0, log_every_n_steps: 50, threads: null, device: auto}
augment: {seed: 0, num_views: 8, rotate: 5.0, scale_min: 0.95, scale_max: 1.05, shift: 0.03, flip: 0.5, brightness: 0.1, contrast: 0.1,
  erase: 0.0, erase_min: 0.1, erase_max: 0.4, autoaugment: false}
eval: {tta: plain, robustness: [], severities: [1, 3, 5], cka: false}
checkpoint: {every_steps: 200}
paths: {store: store, runs: runs, run: null}
experiment: null
debug: null
"""

FERPLUS = ("data=ferplus", "data.root=/faces", "loss=[ce,kd]", "loss.kd.temperature=4.0", "seed=3")
SEVERAL = ("teacher=ensemble", "student=microexpnet", "optimizer=sgd", "loss=[dist]")
OLD = pytest.mark.parametrize("text, words", [(ONE, FERPLUS), (ENSEMBLE, SEVERAL)], ids=["one", "ensemble"])


@pytest.fixture(autouse=True, scope="module")
def registry():
    with initialize_config_module("conf", version_base="1.3"):
        yield


def old(text):
    return RunConfig.from_dict(yaml.safe_load(text))


def composed(*words):
    return config.typed(compose("run", overrides=list(words)))


def options(node, path=()):
    """Every key of a config that is no group: (path, value)."""
    for key, value in node.items():
        if isinstance(value, dict) and value and key != "lr_scale":
            yield from options(value, (*path, key))
        else:
            yield (*path, key), value


def without(cfg, path):
    """The config of the time before an option was there, as it is read today."""
    plain = asdict(cfg)
    *outer, last = path
    del reduce(dict.__getitem__, outer, plain)[last]
    return RunConfig.from_dict(plain)


@OLD
def test_run_name_old_config_is_that_of_todays_command(text, words):
    assert config.run_name(old(text)) == config.run_name(composed(*words))


@OLD
def test_run_name_moved_modules_stays(text, words):
    moved = old(re.sub(r"_target_: [\w.]+\.", "_target_: another.house.of.modules.", text))
    assert canonical(asdict(moved)) == canonical(asdict(old(text))) and config.run_name(moved) == config.run_name(
        old(text)
    )
    renamed = old(re.sub(r"_target_: ([\w.]+)", r"_target_: \1Two", text, count=1))
    assert config.run_name(renamed) != config.run_name(old(text))


@OLD
def test_run_name_option_added_at_its_default_stays(text, words):
    cfg = old(text)
    default = config.identity(cfg)
    added = [path for path, _ in options(config.settings(cfg)) if path not in dict(options(default))]
    assert len(added) > 50 and ("train", "mixup") in added
    for path in added:
        assert config.run_name(without(cfg, path)) == config.run_name(cfg), path
    for path, _ in options(default):  # and what was chosen is part of the name
        if path[-1] not in ("_target_", "name"):
            assert config.run_name(without(cfg, path)) != config.run_name(cfg), path


@OLD
def test_identity_nested_targets_are_class_names(text, words):
    targets = [value for path, value in options(config.identity(old(text))) if path[-1] == "_target_"]
    assert targets and all(target == last_part(target) for target in targets)
    listed = {"_target_": "a.b.C", "parts": [{"_target_": "d.E", "more": {"_target_": "f.g.H"}}, 2.0, 0.5]}
    assert canonical(listed) == {"_target_": "C", "parts": [{"_target_": "E", "more": {"_target_": "H"}}, 2, 0.5]}


def test_learning_teacher_key_moved_modules_and_added_option_stays():
    cfg = old(ONE)
    inner, now = config.teacher_run(cfg, cfg.teacher), composed(*FERPLUS)
    assert config.learning(inner) == config.learning(config.teacher_run(now, now.teacher))
    assert config.learning(without(inner, ("student", "drop_path_rate"))) == config.learning(inner)
    assert config.learning(replace(inner, seed=1)) != config.learning(inner)


def test_without_defaults_unknown_class_keeps_everything():
    node = {"_target_": "Mine", "size": 64, "options": {}, "lr_scale": {"head.": 10}}
    assert without_defaults(node, "student") == node


def test_refuse_another_changed_default_is_refused(tmp_path):
    cfg = composed(*FERPLUS)
    old_default = replace(
        cfg, train=replace(cfg.train, epochs=7)
    )  # what conf/train/default.yaml said when it was written
    old_default.write(tmp_path / "config.yaml")
    with pytest.raises(ValueError, match=r"holds another run; its train\.epochs is 7, this one's is \d"):
        refuse_another(cfg, RunFolder(tmp_path))
    plain = asdict(cfg)
    del plain["train"]["mixup"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    refuse_another(cfg, RunFolder(tmp_path))
