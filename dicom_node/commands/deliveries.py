"""``osteonode delivery ...``: the orders are rows that the running node acts on."""

import argparse

from rich.console import Console
from rich.table import Table

from dicom_node import clock
from dicom_node.db.delivery_orders import (
    count_receipts,
    find_delivery,
    give_up,
    items_of,
    list_deliveries,
    retry,
    retry_all,
    send_again,
    undo,
)
from dicom_node.db.session import prepare_databases, transaction
from dicom_node.errors import ConfigurationError
from dicom_node.settings import Settings
from dicom_node.web.delivery_routes import described

TIME = "%Y-%m-%d %H:%M:%S"


def list_all(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Print the deliveries that changed last."""
    table = Table("id", "state", "to", "job", "accepted", "next try (UTC)", "sentence")
    with transaction(prepare_databases(settings).hospital) as session:
        rows = list_deliveries(session, options.state or "", options.peer or "", options.last)
        accepted = count_receipts(session, [row.id for row, _ in rows])
    for row, peer in rows:
        next_try = "-" if row.next_try_at is None else row.next_try_at.strftime(TIME)
        table.add_row(
            str(row.id), row.state, peer.name, row.job_id[:8], str(accepted[row.id]), next_try, row.sentence or "-"
        )
    console.print(table)


def show(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Print what a peer said of every object of a delivery."""
    table = Table("object", "answer of the peer", "accepted (UTC)", "committed", "found")
    with transaction(prepare_databases(settings).hospital) as session:
        delivery = find_delivery(session, options.delivery)
        items = [described(item) for item in items_of(session, delivery)]
    console.print(f"Delivery {delivery.id}: {delivery.state}. {delivery.sentence}".strip(), highlight=False)
    for one in items:
        moments = ["-" if at is None else at.strftime(TIME) for at in (one.accepted_at, one.committed_at, one.found_at)]
        committed = one.commitment_failure or moments[1]
        table.add_row(f"{one.kind}\n{one.sop_instance_uid}", one.status, moments[0], committed, moments[2])
    console.print(table)


def try_again(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Try deliveries now: those named, or every one to a peer that failed or waits."""
    if bool(options.delivery) == bool(options.peer):
        raise ConfigurationError("Name deliveries, or all of a peer with --peer.")
    with transaction(prepare_databases(settings).hospital) as session:
        if options.peer:
            count = retry_all(session, options.peer, clock.now())
        else:
            count = len([retry(session, number, clock.now()) for number in options.delivery])
    console.print(f"{count} {'delivery is' if count == 1 else 'deliveries are'} tried as soon as the node runs.")


def end(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Give a delivery up."""
    with transaction(prepare_databases(settings).hospital) as session:
        give_up(session, options.delivery, clock.now())
    console.print(f"Given up. Take it back with: osteonode delivery undo {options.delivery}")


def take_back(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Take back that a delivery was given up."""
    with transaction(prepare_databases(settings).hospital) as session:
        undo(session, options.delivery, clock.now())
    console.print(f"Delivery {options.delivery} goes on where it was.")


def send(settings: Settings, options: argparse.Namespace, console: Console) -> None:
    """Send everything of a delivery once more, to its peer or to another."""
    with transaction(prepare_databases(settings).hospital) as session:
        number = send_again(session, options.delivery, options.peer, clock.now()).id
    console.print(f"Sent again as delivery {number}, as soon as the node runs.")
