"""The machine of a benchmark, and the resources that a process uses."""
from importlib import metadata
import os
from pathlib import Path
import platform
import shutil
import subprocess
from typing import Any

PACKAGES = ('torch', 'openvino', 'open_clip_torch', 'timm', 'numpy', 'opencv-python',
            'opencv-python-headless', 'rclpy')


# What decides in which precision, and how fast, a CPU runs a student: as /proc/cpuinfo names it.
INSTRUCTIONS = ('avx2', 'avx512f', 'avx_vnni', 'avx512_vnni', 'avx512_bf16', 'avx512_fp16',
                'amx_int8', 'amx_bf16', 'amx_fp16', 'asimddp', 'asimdhp', 'i8mm', 'bf16')


def describe() -> dict[str, Any]:
    """Return the machine and the versions of packages, as values for JSON."""
    info = Path('/proc/cpuinfo').read_text().splitlines()
    cpu = next((line.split(':')[1].strip() for line in info if line.startswith('model name')),
               platform.processor())
    flags = next((line.split(':')[1].split() for line in info
                  if line.startswith(('flags', 'Features'))), [])
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30
    return {'cpu': cpu, 'instructions': ' '.join(name for name in INSTRUCTIONS if name in flags),
            'cores': os.cpu_count(), 'memory [GiB]': round(memory),
            'gpu': gpu_name() or 'none', 'system': f'{platform.system()} {platform.machine()}',
            'python': platform.python_version(), 'versions': _versions()}


def sentence(machine: dict[str, Any]) -> str:
    """Return the result of `describe` as a sentence."""
    facts = [f'{key}: {value}' for key, value in machine.items() if key != 'versions']
    return '; '.join(facts + [f'{name} {version}' for name, version in
                              machine['versions'].items()])


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # a distribution's own, such as rclpy
            continue
    return found


def _nvidia_smi(query: str) -> list[str]:
    if not shutil.which('nvidia-smi'):
        return []
    asked = subprocess.run(['nvidia-smi', query, '--format=csv,noheader,nounits'],
                           capture_output=True, text=True)
    return asked.stdout.splitlines() if asked.returncode == 0 else []


def gpu_name() -> str:
    """Return the name of the first GPU, '' without one."""
    return next(iter(_nvidia_smi('--query-gpu=name')), '')


def gpu() -> dict[str, str]:
    """Return driver, memory and power limit of the first GPU; empty without one."""
    names = ('driver', 'GPU memory [MiB]', 'GPU power limit [W]')
    lines = _nvidia_smi('--query-gpu=driver_version,memory.total,power.limit')
    return dict(zip(names, lines[0].split(', '), strict=True)) if lines else {}


def gpu_memory(pid: int) -> float | None:
    """Return the GPU memory of a process [MiB]; None without a GPU."""
    lines = [line.split(', ') for line in _nvidia_smi('--query-compute-apps=pid,used_memory')]
    used = [float(memory) for process, memory in lines if process == str(pid)]
    return sum(used) if used else None


def cpu_time(pid: int) -> float:
    """Return the CPU time that the threads of a process have used so far [s]."""
    total = 0
    for task in Path(f'/proc/{pid}/task').iterdir():
        try:
            total += int((task / 'schedstat').read_text().split()[0])  # [ns]
        except OSError:  # it has just ended
            continue
    return total / 1e9


def memory(pid: int) -> float:
    """Return the memory of a process that is in RAM [MiB]."""
    lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    return int(next(line for line in lines if line.startswith('VmRSS')).split()[1]) / 1024
