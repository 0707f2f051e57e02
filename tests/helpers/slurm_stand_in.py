"""A stand-in for SLURM: sbatch, srun, sacct and scontrol as scripts in a folder that goes in front of PATH."""

import os
import textwrap
from pathlib import Path

SCRIPTS = {
    # runs every task of the array at once, each in the background, with the variables that SLURM sets
    "sbatch": """
        import pathlib, re, sys
        home, script = pathlib.Path(__file__).parent, pathlib.Path(sys.argv[-1]).read_text()
        number = 4242 + len(list(home.glob("*.sh")))
        script = script.replace("\\nsrun ", "\\nexec srun ")  # one process per task: signals reach it
        (home / f"{number}.sh").write_text(script)
        array = re.search(r"--array=0-(\\d+)", script)
        exec((home / "start.txt").read_text())
        for task in range(int(array[1]) + 1 if array else 1):
            start(home, number, str(task) if array else None)
        print(f"Submitted batch job {number}")
    """,
    "start.txt": """
        import os, subprocess
        def start(home, number, task):
            job = str(number) if task is None else f"{number}_{task}"
            more = {"SLURM_JOB_ID": str(number), "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
            more |= {"SLURM_NODEID": "0", "SLURM_JOB_NUM_NODES": "1"}
            more |= {} if task is None else {"SLURM_ARRAY_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": task}
            with open(home / f"{job}.out", "ab") as out:
                done = subprocess.Popen(["bash", str(home / f"{number}.sh")], env=os.environ | more, stdout=out, stderr=out,
                                        stdin=subprocess.DEVNULL, start_new_session=True)
            with open(home / f"{job}.pids", "a") as pids:
                pids.write(f"{done.pid}\\n")
    """,
    # runs the command behind its options in its own place, so that a signal to the task reaches it
    "srun": """
        import os, sys
        words = sys.argv[1:]
        while words and words[0].startswith("-"):
            words = words[1:] if "=" in words[0] or words[0] == "--unbuffered" else words[2:]
        os.execvp(words[0], words)
    """,
    "sacct": """
        import os, pathlib
        home = pathlib.Path(__file__).parent
        print("JobID|State|NodeList")
        for file in sorted(home.glob("*.pids")):
            pid = int(file.read_text().split()[-1])
            try:
                alive = "State:\\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text()
            except OSError:
                alive = False
            print(f"{file.stem}|{'RUNNING' if alive else 'COMPLETED'}|here")
    """,
    "scontrol": """
        import pathlib, sys
        home = pathlib.Path(__file__).parent
        assert sys.argv[1] == "requeue"
        exec((home / "start.txt").read_text())
        number, _, task = sys.argv[2].partition("_")
        start(home, number, task or None)
    """,
}


def install(folder: Path, python: str) -> Path:
    """Write the scripts into a folder and return it."""
    folder.mkdir(parents=True)
    for name, code in SCRIPTS.items():
        head = "" if name.endswith(".txt") else f"#!{python}"
        (folder / name).write_text(f"{head}{textwrap.dedent(code)}")
        os.chmod(folder / name, 0o755)
    return folder
