"""docs/stories.md names every fault with what its wire shows."""

from pathlib import Path

from device_sim.faults.catalogue import CATALOGUE

PAGE = (Path(__file__).parents[3] / "docs" / "stories.md").read_text(encoding="utf-8")


def test_every_fault_is_on_the_page_as_the_code_has_it():
    for fault in CATALOGUE:
        (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{fault.name}` |")]
        assert fault.wire in row
        assert all(f"`{name}`" in row for name in fault.defaults)
