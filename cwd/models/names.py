"""Which kind of network a name is for."""

from cwd.models.classifier_names import is_classifier
from cwd.models.detection.names import is_detector

SEGMENTATION, DETECTOR, CLASSIFIER = "a segmentation network", "a detector", "a classifier"


def kind_of(network: str) -> str:
    """The kind of a network, in the words that errors use."""
    if is_detector(network):
        return DETECTOR
    return CLASSIFIER if is_classifier(network) else SEGMENTATION
