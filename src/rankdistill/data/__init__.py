"""Collections and their readers, and the candidates of their queries."""

from rankdistill.data.beir import read_beir, write_beir
from rankdistill.data.candidates import Candidates
from rankdistill.data.collection import Collection
from rankdistill.data.frames import from_frames
from rankdistill.data.hub import read_hub
from rankdistill.data.irds import read_irds
from rankdistill.data.pairs import from_pairs
from rankdistill.data.python_functions import python_functions
from rankdistill.data.trec import read_trec
from rankdistill.data.views import View

__all__ = [
    "Candidates",
    "Collection",
    "View",
    "from_frames",
    "from_pairs",
    "python_functions",
    "read_beir",
    "read_hub",
    "read_irds",
    "read_trec",
    "write_beir",
]
