"""tools/docs_check.py and its package docs_commands, as modules."""
from pathlib import Path
import sys

TOOLS = str(Path(__file__).parents[2] / 'tools')
sys.path.append(TOOLS)
try:
    import docs_check
    from docs_commands import checking, pages
finally:
    sys.path.remove(TOOLS)

__all__ = ['checking', 'docs_check', 'pages']
