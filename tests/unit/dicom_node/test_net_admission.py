"""Who may call, as a table."""

import pytest

from dicom_node.net.admission import PEER_LIMIT, UNKNOWN_TITLE, WRONG_HOST, Caller, Rejection, Sender, admit, holds

CT = Sender("CT1", ("10.1.0.0/16", "192.168.7.4"), 2)
ANYWHERE = Sender("PACS")
ARCHIVE = Sender("ARCHIVE", ("10.1.0.0/16",), may_send=False)


@pytest.mark.parametrize(
    ("aet", "address", "active", "expected"),
    [
        ("CT1", "10.1.2.3", 0, None),
        ("CT1", "192.168.7.4", 1, None),
        ("CT1", "10.2.2.3", 0, WRONG_HOST),
        ("CT1", "192.168.7.5", 0, WRONG_HOST),
        ("CT1", "10.1.2.3", 2, PEER_LIMIT),
        ("PACS", "203.0.113.9", 99, None),
        ("ct1", "10.1.2.3", 0, UNKNOWN_TITLE),
        ("", "10.1.2.3", 0, UNKNOWN_TITLE),
        ("ARCHIVE", "10.1.2.3", 0, UNKNOWN_TITLE),
    ],
)
def test_title_address_and_number_decide(aet: str, address: str, active: int, expected: Rejection | None) -> None:
    assert admit(Caller(aet, address), (CT, ANYWHERE, ARCHIVE), active) == expected


def test_a_destination_that_may_not_send_is_let_in_to_report_and_from_its_hosts_only() -> None:
    assert admit(Caller("ARCHIVE", "10.1.2.3", only_reports=True), (CT, ARCHIVE), 0) is None
    assert admit(Caller("ARCHIVE", "10.2.2.3", only_reports=True), (CT, ARCHIVE), 0) == WRONG_HOST
    assert admit(Caller("STRANGER", "10.1.2.3", only_reports=True), (CT, ARCHIVE), 0) == UNKNOWN_TITLE


def test_without_peers_nobody_may_call() -> None:
    assert admit(Caller("PACS", "127.0.0.1"), (), 0) == UNKNOWN_TITLE


@pytest.mark.parametrize(
    ("network", "address", "expected"),
    [
        ("10.1.0.0/16", "::ffff:10.1.9.9", True),
        ("10.1.0.0/16", "::1", False),
        ("2001:db8::/32", "2001:db8::7", True),
        ("10.1.2.3/16", "10.1.9.9", True),
    ],
)
def test_a_network_holds_an_address_in_either_notation(network: str, address: str, expected: bool) -> None:
    assert holds(network, address) is expected
