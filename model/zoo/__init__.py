"""Makes model folders from published weights: `add("efficientnet-lite0", Path("models"))`."""

from model.zoo.catalog import add, names
from model.zoo.errors import ZooError

__all__ = ["ZooError", "add", "names"]
