"""requests."""

import sqlalchemy as sa
from alembic import op

revision = "a1c0de000002"
down_revision = "a1c0de000001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
