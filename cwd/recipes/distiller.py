"""A recipe at work on two networks."""

from typing import Any

from torch import Tensor, nn

from cwd.losses import ChannelAlignment, Holistic
from cwd.losses.labels import IGNORED
from cwd.recipes.notation import SYMBOLS, TAPS
from cwd.recipes.parse import PAPERS_MAP, Term, parse_recipe
from cwd.system.errors import CwdError


class Distiller(nn.Module):
    """A recipe at work on one student and one teacher: the sum over phi in eq. 5 and 8.

    Args:
        recipe: the terms, or their text, "PI + CW_s".
        student: network with `feature_channels` and `num_classes`; `cwd.models.Taps` makes one of
            any network.
        teacher: the same; it is frozen and put into eval mode here.
        map_size: height and width of their maps.

    Attributes:
        losses: the losses by their terms' names; that of "HO" holds a critic.
        alignments: the channel alignments by term.

    Raises:
        CwdError: the two networks are for different classes, share weights, or have no such map;
            later, a map has other channels than its network said, a label is out of range, or the
            teacher is in training mode again.
    """

    def __init__(
        self,
        recipe: tuple[Term, ...] | str,
        student: nn.Module,
        teacher: nn.Module,
        map_size: tuple[int, int] = PAPERS_MAP,
    ) -> None:
        super().__init__()
        self._check(student, teacher)
        if isinstance(teacher, nn.Module):
            teacher.eval().requires_grad_(False)
        self.classes = teacher.num_classes  # until labels were looked at
        self._teacher = [teacher]  # in a list, as it is no part of what is trained
        recipe = parse_recipe(recipe) if isinstance(recipe, str) else recipe
        self.terms, self.widths = recipe, {}
        self.losses, self.alignments = nn.ModuleDict(), nn.ModuleDict()
        for term in recipe:
            self._add(term, student, teacher, map_size)

    def _check(self, student: nn.Module, teacher: nn.Module) -> None:
        for network, role in ((student, "student"), (teacher, "teacher")):
            if not hasattr(network, "num_classes"):
                raise CwdError(
                    f"the {role}, a {type(network).__name__}, doesn't say where its maps are: give "
                    'Taps(network, score="...", feature="..."), from cwd.models.'
                )
        weights = [{*getattr(network, "parameters", tuple)()} for network in (student, teacher)]
        if weights[0] & weights[1]:
            raise CwdError(
                "student and teacher share weights, which would be frozen: build a second network."
            )
        if student.num_classes != teacher.num_classes:
            raise CwdError(
                f"the student has {student.num_classes} classes and the teacher "
                f"{teacher.num_classes}: distil from a teacher trained on the same dataset."
            )

    def _add(
        self, term: Term, student: nn.Module, teacher: nn.Module, map_size: tuple[int, int]
    ) -> None:
        name = "num_classes" if term.tap == "s" else f"{TAPS[term.tap]}_channels"
        for network in (student, teacher):
            if not hasattr(network, name):
                raise CwdError(
                    f"{term.name} looks at a map that {network.name} has no tap for: give "
                    f'Taps(network, {TAPS[term.tap]}="...", ...) the name of its module.'
                )
        width, channels = getattr(student, name), getattr(teacher, name)
        self.widths[term.name] = {"student": width, "teacher": channels}
        self.losses[term.name] = term.build(channels, map_size, width, teacher.num_classes)
        if SYMBOLS[term.symbol].aligned and width != channels:
            self.alignments[term.name] = ChannelAlignment(width, channels, term.align)

    @property
    def trained(self) -> nn.Module:
        """What is trained with the student: the alignments, and losses that learn."""
        learning = [self.losses[term.name] for term in self.terms if term.learns]
        return nn.ModuleList([*self.alignments.values(), *learning])

    @property
    def critic(self) -> Holistic | None:
        """The loss that has something to learn itself, if the recipe has it."""
        return self.losses["HO"] if "HO" in self.losses else None  # noqa: SIM401 (no `get`)

    def forward(
        self, student_out: Any, teacher_out: Any, target: Any, images: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Every term's value times its weight, a scalar by the term's name.

        Args:
            student_out: the student's output, with a map for each term.
            teacher_out: the teacher's.
            target: the task's; of segmentation int64 [B, H, W], 255 ignored.
            images: float32 [B, 3, H, W], normalised: what both networks saw; only HO needs it.
        """
        self._check_labels(target)
        given = student_out, teacher_out, target, images
        return {term.name: term.weight * self._value(term, *given) for term in self.terms}

    def _check_labels(self, target: Any) -> None:
        """Refuse classes that the networks don't have; once, since to look makes a GPU wait."""
        if self.classes and isinstance(target, Tensor) and target.ndim == 3:
            wrong = target[((target < 0) | (target >= self.classes)) & (target != IGNORED)]
            if wrong.numel():
                raise CwdError(
                    f"the target has the label {wrong[0]} and the networks {self.classes} classes: "
                    f"give 0 to {self.classes - 1}, and {IGNORED} for pixels without a class."
                )
        self.classes = 0

    def _value(self, term: Term, student_out: Any, teacher_out: Any, *given: Any) -> Tensor:
        loss = self.losses[term.name]
        outputs = zip(self.widths[term.name].items(), (student_out, teacher_out), strict=True)
        for (whose, channels), output in outputs:
            if (found := term.map_of(output).shape[1]) != channels:
                raise CwdError(
                    f"{term.name}: the {whose}'s {TAPS[term.tap]} map has {found} channels and not "
                    f"{channels}, as its network says: see that no maps were swapped."
                )
        if getattr(self._teacher[0], "training", False):
            raise CwdError(
                "the teacher isn't frozen any more, something has called train() on it: call "
                "teacher.eval() after that."
            )
        given = given if loss is self.critic else given[:1]  # the target, and for HO the images
        return loss(self._aligned(term, student_out), term.map_of(teacher_out), *given)

    def _aligned(self, term: Term, student_out: Any) -> Tensor:
        student_map = term.map_of(student_out)
        if term.name in self.alignments:
            student_map = self.alignments[term.name](student_map)
        return student_map

    def compared(self, name: str, student_out: Any) -> Tensor:
        """The student's map as the term `name` compares it: aligned, or transformed."""
        (term,) = (term for term in self.terms if term.name == name)
        student_map = self._aligned(term, student_out)
        return self.losses[name].transformed(student_map) if term.learns else student_map
