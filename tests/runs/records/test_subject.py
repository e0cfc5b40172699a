import json
import subprocess
import sys
from typing import Any

import pytest

from partialnas.runs.records.subject import (
    Subject,
    TimmModel,
    parse_subject,
    subject_data,
    subject_digest,
    subject_name,
)
from partialnas.space.arch.architecture import Architecture
from partialnas.space.arch.presets import preset
from partialnas.space.errors import UserError

FASTERNET, TIMMS = preset("fasternet_t0"), TimmModel(timm="fasternet_t0")
SUBJECTS: list[Subject] = [FASTERNET, preset("partialnet_t0"), TIMMS]


@pytest.mark.parametrize("subject", SUBJECTS, ids=subject_name)
def test_plain_data_round_trip(subject: Subject) -> None:
    text = json.dumps(subject_data(subject))
    assert parse_subject(json.loads(text)) == subject
    assert parse_subject(subject) is subject
    assert subject_digest(parse_subject(json.loads(text))) == subject_digest(subject)


def test_timm_models_are_named_as_in_a_study() -> None:
    assert parse_subject("timm:fasternet_t0") == TIMMS
    assert subject_name(TIMMS) == "timm:fasternet_t0"


def test_digests_depend_on_the_network_and_not_on_its_name() -> None:
    digests = [subject_digest(subject) for subject in SUBJECTS]
    assert len(set(digests)) == len(digests)
    assert all(len(bytes.fromhex(digest)) == 8 for digest in digests)
    renamed = FASTERNET.model_copy(update={"name": "other"})
    assert subject_digest(renamed) == subject_digest(FASTERNET)


def test_an_architecture_without_a_name_is_called_by_its_digest() -> None:
    nameless = Architecture.from_data({**subject_data(FASTERNET), "name": ""})
    assert subject_name(nameless) == subject_digest(nameless)
    assert subject_name(FASTERNET) == "fasternet_t0"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"timm": "resnet18.a1_in1k"}, "resnet18.a1_in1k"),
        ("timm:hf-hub:someone/model", "hf-hub:someone/model"),
        ("timm:../../model", "../../model"),
        ("timm:", "''"),
        ({"timm": "resnet18", "pretrained": True}, "pretrained: unknown key"),
        ({"stages": [{"width": 4}]}, "stages[0].blocks: missing"),
        ("fasternet_t0", "timm:NAME"),
        (7, "timm:NAME"),
    ],
)
def test_invalid_subjects_are_rejected(data: Any, message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_subject(data)
    assert message in str(error.value)


def test_subjects_do_not_import_torch() -> None:
    program = (
        "import sys; from partialnas.runs.records.subject import *;"
        "from partialnas.space.arch.presets import preset;"
        "s = [parse_subject('timm:resnet18'), preset('partialnet_t0')];"
        "[(parse_subject(subject_data(x)), subject_digest(x), subject_name(x)) for x in s];"
        "assert not {'torch', 'timm', 'fvcore'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
