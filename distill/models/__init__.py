"""What students and teachers share: timm's networks, and hooks on inner feature maps."""
