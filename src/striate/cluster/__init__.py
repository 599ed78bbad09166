"""The one room that moves numbers between processes: torch.distributed under gloo or NCCL, started by torchrun or a test."""
