"""Secrets at rest: they open with their key, for their purpose, and unchanged only."""

from __future__ import annotations

import pytest

from conveyor_console.kit.sealing import CannotOpen, Vault

OLD, NEW = b"an old secret of 32 bytes or more", b"a new secret of 32 bytes or more.."


def test_what_was_sealed_opens_again_and_shows_nothing() -> None:
    vault = Vault(OLD)
    sealed = vault.seal("whsec_x", "webhook:1")
    assert "whsec" not in sealed
    assert sealed.split(".")[1] == vault.key_id
    assert vault.open(sealed, "webhook:1") == "whsec_x"
    assert sealed != vault.seal("whsec_x", "webhook:1")


def test_a_former_secret_still_opens_and_no_longer_seals() -> None:
    sealed = Vault(OLD).seal("x", "p")
    both = Vault(NEW, [OLD])
    assert both.open(sealed, "p") == "x"
    assert both.key_id == Vault(NEW).key_id != Vault(OLD).key_id
    with pytest.raises(CannotOpen, match="CONVEYOR_PREVIOUS_SECRET_KEYS"):
        Vault(NEW).open(sealed, "p")


@pytest.mark.parametrize("change", ["purpose", "cut", "flip", "form", "empty"])
def test_what_was_changed_or_moved_does_not_open(change: str) -> None:
    vault = Vault(OLD)
    sealed = vault.seal("x", "p")
    bad = {
        "purpose": sealed,
        "cut": sealed[:-4],
        "flip": sealed[:-6] + ("A" if sealed[-6] != "A" else "B") + sealed[-5:],
        "form": "v0" + sealed[2:],
        "empty": "",
    }[change]
    with pytest.raises(CannotOpen):
        vault.open(bad, "q" if change == "purpose" else "p")
