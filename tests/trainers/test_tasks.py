"""Task distributions: what the built-in ones draw, and what is said of a person's own."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from trainers.tasks import Options, TaskSource
from trainers.tasks.sinusoid import Sinusoid
from trainers.tasks.xor import XOR, FourPoints
from trainers.trainer import TrainingError

OPTIONS = Options(ways=2, shots=3, query_shots=4)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("task", ["xor", "sinusoid"])
def test_tasks_depend_on_the_generator_alone(task):
    first, second = (TaskSource(task, OPTIONS).sample_tasks(5, generator(1)) for _ in range(2))
    assert all(torch.equal(*parts) for parts in zip(first, second, strict=True))
    other = TaskSource(task, OPTIONS).sample_tasks(5, generator(2))
    assert not torch.equal(first.support_x, other.support_x)


def test_xor_without_noise_and_motion_is_the_truth_table():
    tasks = FourPoints().sample_tasks(50, generator())
    assert {tuple(y) for y in tasks.query_y.tolist()} == {(0, 1, 1, 0), (1, 0, 0, 1)}
    assert torch.equal(tasks.support_x, tasks.query_x)
    for x, y in zip(tasks.support_x, tasks.support_y, strict=True):
        differ = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).long()
        assert torch.equal(y, differ) or torch.equal(y, 1 - differ)
    assert {tuple(point) for point in tasks.support_x[0].tolist()} == {(-1, -1), (-1, 1), (1, -1), (1, 1)}


def test_xor_is_balanced_everywhere():
    tasks = XOR(shots=5, query_shots=10).sample_tasks(4000, generator())
    assert tasks.support_x.shape == (4000, 20, 2)
    assert tasks.query_y.shape == (4000, 40)
    assert (tasks.support_y.sum(1) == 10).all()
    near = (tasks.query_x - torch.tensor([1.0, 0.5])).norm(dim=2) < 0.5
    assert 0.45 < tasks.query_y[near].float().mean() < 0.55
    spread = tasks.query_x.view(4000, 4, 10, 2).std(2).mean()
    assert spread == pytest.approx(0.25, rel=0.05)  # the size is 1 in the mean


def test_sinusoids_are_those_of_the_paper():
    tasks = Sinusoid(shots=200, query_shots=5).sample_tasks(500, generator())
    assert tasks.support_x.shape == tasks.support_y.shape == (500, 200, 1)
    assert -5 <= tasks.support_x.min() < -4.9
    assert 4.9 < tasks.support_x.max() <= 5
    amplitudes = tasks.support_y.abs().amax((1, 2))
    assert 0.09 < amplitudes.min() < 0.3
    assert 4.7 < amplitudes.max() <= 5


OWN = """
import torch
class Base:
    def sample_tasks(self, n, generator):
        x, y = torch.zeros(n, 3, 2), torch.zeros(n, 3, dtype=torch.int64)
        parts = dict(support_x=x, support_y=y, query_x=x, query_y=y)
        return tuple((parts | self.change(n)).values())
class OneTask(Base):
    def change(self, n): return {"support_x": torch.zeros(1, 3, 2)}
class Flat(Base):
    def change(self, n): return {"query_x": torch.zeros(n, 3)}
class Whole(Base):
    def change(self, n): return {"query_x": torch.zeros(n, 3, 2, dtype=torch.int64)}
class Fewer(Base):
    def change(self, n): return {"support_y": torch.zeros(n, 2, dtype=torch.int64)}
class ManyClasses(Base):
    def change(self, n): return {"query_y": torch.full((n, 3), 7)}
class FloatRows(Base):
    def change(self, n): return {"support_y": torch.zeros(n, 3)}
class Double(Base):
    def change(self, n): return {"support_x": torch.zeros(n, 3, 2, dtype=torch.float64)}
class NotANumber(Base):
    def change(self, n): return {"support_x": torch.full((n, 3, 2), float("nan"))}
class Grows(Base):
    def __init__(self): self.calls = 0
    def change(self, n):
        self.calls += 1
        x = torch.zeros(n, 3, 2 + self.calls // 3)
        return {"support_x": x, "query_x": x}
class Different(Base):
    def change(self, n): return {"query_x": torch.zeros(n, 3, 5)}
class Raises:
    def sample_tasks(self, n, generator): return 1 / 0
class NotTasks:
    def sample_tasks(self, n, generator): return [1, 2]
class Demanding:
    def __init__(self, colour): pass
    def sample_tasks(self, n, generator): pass
class Nothing: pass
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("OneTask", r"gave support_x of shape \[1, 3, 2\]: must begin with \[2, rows\]"),
        ("Flat", r"gave query_x of shape \[1, 3\], float32: must be float32 \[1, rows, \*shape\]"),
        ("Whole", r"gave query_x of shape \[1, 3, 2\], int64: must be float32"),
        ("Double", r"gave support_x of shape \[1, 3, 2\], float64: must be float32"),
        ("NotANumber", r"sample_tasks\(2, generator\) gave support_x that is not finite: must be numbers"),
        ("Fewer", "gave support_y with 2 rows: must be 3, as support_x has"),
        ("ManyClasses", "gave query_y with classes 7 to 7: must be from 0 to 1, as ways = 2"),
        ("FloatRows", r"gave support_y of shape \[1, 3\], float32: must be int64 \[1, rows\] or float32"),
        ("Different", r"gave support_x of rows \[2\] and query_x of rows \[5\]: must be alike"),
        ("Raises", r"sample_tasks\(1, generator\) failed: ZeroDivisionError: division by zero"),
        ("NotTasks", r"gave list: must be Tasks\(support_x, support_y, query_x, query_y\)"),
        ("Demanding", "making it failed: TypeError: .*colour"),
        ("Nothing", r"Nothing has no sample_tasks\(n, generator\)"),
        ("Missing", "own_tasks has no Missing"),
    ],
)
def test_what_is_wrong_with_a_persons_own_is_named(tmp_path, monkeypatch, name, said):
    (tmp_path / "own_tasks.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(TrainingError, match=f"task = own_tasks:{name}: .*{said}|{said}") as refusal:
        TaskSource(f"own_tasks:{name}", OPTIONS)
    assert str(refusal.value).startswith(f"task = own_tasks:{name}: ")
    assert "\n" not in str(refusal.value)


def test_tasks_that_change_their_shape_are_refused(tmp_path, monkeypatch):
    (tmp_path / "own_tasks.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    source = TaskSource("own_tasks:Grows", OPTIONS)
    with pytest.raises(TrainingError, match=r"gave rows \[\[3\], \[\], \[3\], \[\]\]: must be \[\[2\], "):
        source.sample_tasks(4, generator())


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("own_tasks:", "write package.module:Class"),
        ("sinusiod", "no such task distribution; did you mean sinusoid?"),
        ("zebra", "must be xor, sinusoid, omniglot or package.module:Class"),
        ("no_such_module:Tasks", "no module named no_such_module"),
        ("tasks.py:Tasks", "write package.module:Class"),
    ],
)
def test_unknown_names(task, said):
    with pytest.raises(TrainingError, match=said):
        TaskSource(task, OPTIONS)


def test_more_tasks_than_fit_are_refused():
    source = TaskSource("xor", replace(OPTIONS, shots=1000))
    told = r"^task = xor: 1000000000000 tasks at once take about .* GB, and .* GB are free; use fewer tasks"
    with pytest.raises(TrainingError, match=told):
        source.sample_tasks(10**12, generator())


@pytest.mark.parametrize("task", ["xor", "sinusoid"])
def test_data_that_nobody_reads_is_refused(task):
    with pytest.raises(TrainingError, match=rf"^data = rows.npz: task = {task} reads no data; leave it out$"):
        TaskSource(task, replace(OPTIONS, data="rows.npz"))


def test_the_declarations_do_not_import_torch():
    code = "import sys, trainers.hyperparameters, trainers.presets; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
