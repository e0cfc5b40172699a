"""The study: one YAML file that states what is searched or compared, how, and with which budget."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import ModelWrapValidatorHandler, PrivateAttr, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from partialnas.search.study.consistency import CHECKS, measures_nothing
from partialnas.search.study.shipped import find_study
from partialnas.search.study.study_data import Overrides, base_dir_of, load_as
from partialnas.search.study.study_fields import ACCURACY_AND_MACS, StudyFields
from partialnas.space.validation import error_details, message_details


class Study(StudyFields):
    """A complete, validated study; `search.resolve` turns it into objects that run."""

    _base_dir: Path = PrivateAttr(default=Path())

    @property
    def base_dir(self) -> Path:
        """Folder that relative paths start from; the current one unless read from a file."""
        return self._base_dir

    def based_in(self, folder: Path) -> Self:
        """Return the study with relative paths that start from a folder."""
        study = self.model_copy()
        study._base_dir = folder
        return study

    @classmethod
    def from_yaml(
        cls,
        source: str | Path,
        *,
        quick: bool = False,
        overrides: Overrides = (),
        plugins: Sequence[str] = (),
    ) -> Self:
        """Read and validate a study, for `partialnas.check` and `partialnas.run`.

        Args:
            source: path of a YAML file, or name of a study that partialnas contains (`quickstart`).
            quick: whether to apply the settings under `quick:`.
            overrides: settings that replace those of the study, by dotted key
                (`{"budget.trials": 40}`) or as `KEY=VALUE`.
            plugins: modules to import in addition to those that the study names.

        Raises:
            UserError: there is no such study, or it is invalid; the message lists every mistake.
        """
        file = find_study(source)
        options: dict[str, Any] = {"quick": quick, "overrides": overrides, "plugins": plugins}
        base_dir = base_dir_of(file.path)
        study = load_as(cls, file.path, **options, base_dir=base_dir)
        # a study of partialnas runs in the user's folder, but its function lies beside it
        return study.based_in(Path() if file.is_shipped and study.trial is None else base_dir)

    @model_validator(mode="wrap")
    @classmethod
    def _check_all(cls, data: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Check every section, then what depends on several; report all mistakes together."""
        if not isinstance(data, Mapping):
            return validate(data)
        if "objectives" not in data and measures_nothing(data.get("measure")):
            data = {**data, "objectives": {**ACCURACY_AND_MACS}}
        errors: list[InitErrorDetails] = []
        invalid: set[str] = set()
        try:
            study = validate(data)
        except ValidationError as error:
            errors = error_details(error)
            invalid = {str(item["loc"][0]) for item in errors}
            valid = {key: value for key, value in data.items() if str(key) not in invalid}
            study = validate({"study": "unnamed", **valid})
        for check, sections_read in CHECKS.items():
            if invalid.isdisjoint(sections_read):
                errors += map(message_details, check(study))
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return study
