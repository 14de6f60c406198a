"""The bone network's training data: sides after mirroring, what noise may not change, and that it learns."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dicom_node.errors import ConfigurationError
from dicom_node.training.bones import judge, task
from dicom_node.training.bones.appearance import render
from dicom_node.training.bones.geometry import cut, mirrored
from dicom_node.training.bones.ship import ship
from dicom_node.training.bones.subjects import (
    IGNORED,
    OTHER_AIR,
    OTHER_BONE,
    OTHER_DENSE,
    OTHER_FAT,
    OTHER_SOFT,
    Subject,
    places_of,
    range_of,
    with_cores,
)
from dicom_node.training.bones.task import TASK, BoneLearner, bone_loss
from dicom_node.training.loop import FORMAT, train
from dicom_node.training.task import Plan
from inference.networks.bone_classes import BoneClass
from inference.networks.bone_net import BoneNet

PATCH = (32, 32, 32)


def subject() -> Subject:
    """A bright block to the right (low columns) and another to the left, in soft tissue."""
    target = np.zeros((40, 40, 60), np.uint8)
    target[10:30, 10:30, 8:24], target[10:30, 10:30, 36:52] = BoneClass.FEMUR_RIGHT, BoneClass.FEMUR_LEFT
    tissue = (target > 0).astype(np.uint8)
    hu = np.where(tissue, 500.0, 40.0) + np.random.default_rng(0).normal(0, 10, target.shape)
    return Subject(
        name="blocks",
        hu=torch.from_numpy(hu.astype(np.float16)),
        target=torch.from_numpy(target),
        tissue=torch.from_numpy(tissue),
        mean_hu=torch.tensor([40.0, 500.0]),
        low_hu=torch.tensor([0.0, 200.0]),
        high_hu=torch.tensor([80.0, 900.0]),
        is_bone=torch.tensor([False, True]),
        places=places_of(target),
    )


def test_a_mirrored_right_femur_is_a_left_femur_on_the_other_side() -> None:
    target = torch.zeros(2, 2, 4, dtype=torch.long)
    target[..., 0], target[..., 1] = BoneClass.FEMUR_RIGHT, IGNORED
    turned = mirrored(target)
    assert (turned[..., 3] == BoneClass.FEMUR_LEFT).all()
    assert (turned[..., 2] == IGNORED).all()
    assert torch.equal(mirrored(turned), target)


def test_a_patch_never_shows_a_right_femur_to_the_left_of_a_left_one() -> None:
    blocks, seen = subject(), 0
    for seed in range(40):
        target = cut(blocks, np.random.default_rng(seed), (32, 32, 64)).target
        right, left = (torch.nonzero(target == bone) for bone in (BoneClass.FEMUR_RIGHT, BoneClass.FEMUR_LEFT))
        if len(right) > 500 and len(left) > 500:
            seen += 1
            assert right[:, 2].float().mean() < left[:, 2].float().mean()
    assert seen > 5


def test_image_and_target_stay_together() -> None:
    blocks = subject()
    for seed in range(10):
        patch = cut(blocks, np.random.default_rng(seed), PATCH)
        inside = (patch.target > 0) & ~patch.outside
        if inside.sum() > 1000:
            assert patch.hu[inside].median() > 300
            assert patch.hu[(patch.target == 0) & ~patch.outside].median() < 200


def test_appearance_changes_labels_only_where_the_field_of_view_is_cut() -> None:
    blocks = subject()
    for seed in range(30):
        generator = np.random.default_rng(seed)
        patch = cut(blocks, generator, PATCH)
        hu, target = render(blocks, patch, generator)
        changed = target != patch.target
        assert torch.isfinite(hu).all()
        assert (target[changed] == BoneClass.BACKGROUND).all()
        assert (hu[changed] == -1000).all()


def test_every_tissue_has_a_range_and_they_are_in_order() -> None:
    for value in range(256):
        low, high = range_of(value)
        assert -1100 < low < high < 1600
    order = [range_of(value)[0] for value in (OTHER_AIR, OTHER_FAT, OTHER_SOFT, OTHER_BONE, OTHER_DENSE)]
    assert order == sorted(order)


def test_the_cores_of_two_bodies_that_touch_do_not() -> None:
    instance = np.zeros((24, 20, 20), np.uint8)
    instance[2:12, 4:16, 4:16], instance[12:22, 4:16, 4:16] = 1, 2
    target = np.where(instance > 0, np.uint8(BoneClass.BODY_SHELL), np.uint8(0))
    cores = with_cores(target, instance) == BoneClass.BODY_CORE
    assert cores[3:10].any()
    assert cores[14:21].any()
    assert not cores[11:13].any()


def test_ignored_voxels_count_nothing() -> None:
    logits = torch.randn(1, len(BoneClass), 4, 4, 4, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 3, (1, 4, 4, 4), generator=torch.Generator().manual_seed(1))
    target[:, 2:] = IGNORED
    other = logits.clone()
    other[:, :, 2:] += 5.0 * torch.randn(1, len(BoneClass), 2, 4, 4)
    assert bone_loss(logits, target).item() == pytest.approx(bone_loss(other, target).item(), rel=1e-5)


class _NoJudge:
    def figures(self, network: BoneNet) -> dict[str, float]:
        del network
        return {"nothing": 0.0}


def learner(plan: Plan) -> BoneLearner:
    torch.manual_seed(plan.seed)
    return BoneLearner(
        BoneNet((4, 8, 8, 8, 8)),
        (subject(),),
        (1.0,),
        plan,
        _NoJudge(),
        torch.device("cpu"),
        patch=PATCH,  # type: ignore[arg-type]
    )


PLAN = Plan(steps=80, learning_rate=1e-2, optimizer="adamw", averaging=0.9, validate_every=80, settings={"batch": 1})


def test_a_batch_depends_on_seed_and_step_only() -> None:
    one, other = learner(PLAN), learner(PLAN)
    other.batch(3)
    first, again = one.batch(7), other.batch(7)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(one.batch(8)[0], first[0])


def test_it_learns(tmp_path: Path) -> None:
    taught = learner(PLAN)
    batches = [taught.batch(step) for step in range(1000, 1004)]

    def loss() -> float:
        with torch.no_grad():
            return float(np.mean([taught.loss(batch).item() for batch in batches]))

    before = loss()
    done = train(TASK, PLAN, tmp_path / "run", taught, torch.device("cpu"))
    assert done.step == PLAN.steps
    assert loss() < 0.7 * before


@pytest.mark.parametrize("left_out", ["", "patient"])
def test_a_network_that_left_a_scan_out_learns_without_it_is_judged_on_it_and_never_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_out: str
) -> None:
    names = {"patient", "chest"}
    monkeypatch.setattr(task, "public_subjects", lambda: tuple(replace(subject(), name=name) for name in names))
    monkeypatch.setattr(task.Judge, "public", lambda seen, unseen: (seen, unseen))
    plan = replace(TASK.plan, steps=1, settings={**TASK.plan.settings, "scenes": 0, "leave_out": left_out})
    learner = task.learner(None, plan, torch.device("cpu"), len)
    assert {subject.name for subject in learner.subjects} == names - {left_out}
    seen, unseen = learner.judge
    assert [subject.name for subject in unseen] == ([left_out] if left_out else [])
    assert left_out not in {subject.name for subject in seen}
    about = {"task": "bones", "plan": {"settings": dict(plan.settings)}}
    torch.save({"format": FORMAT, "weights": {}, "about": json.dumps(about)}, tmp_path / "model.pt")
    (tmp_path / "model_card.md").write_text("card")
    if left_out:
        with pytest.raises(ConfigurationError, match="left a scan out"):
            ship(tmp_path, tmp_path / "tree")
        assert not (tmp_path / "tree").exists()
    else:
        assert ship(tmp_path, tmp_path / "tree").exists()


def test_figures_say_which_scans_were_seen() -> None:
    exams = (judge._of(subject(), "unseen"), judge._of(subject(), "seen"))
    figures = judge.Judge(exams).figures(BoneNet().eval())
    assert {name.split(", ")[1] for name in figures} == {"unseen blocks", "seen blocks"}
