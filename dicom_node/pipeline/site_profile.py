"""The de-identification profile in force: the product's, with the site's recipe laid over it."""

from pathlib import Path

from deid_rules.errors import DeidError, RecipeError
from deid_rules.profile import Profile
from deid_rules.recipe import parse_recipe
from dicom_node.errors import ConfigurationError


def load_profile(recipe: Path | None) -> Profile:
    """Return the profile with the site's recipe.

    Raises
    ------
    ConfigurationError
        When the recipe cannot be read, or a line of it cannot be taken.
    """
    if recipe is None:
        return Profile()
    try:
        return Profile(site_rules=parse_recipe(recipe.read_text(encoding="utf-8")))
    except RecipeError as error:
        raise ConfigurationError(f"{recipe}, {error}") from None
    except DeidError as error:
        raise ConfigurationError(f"{recipe}: {error}.") from None
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"{recipe} is not a readable UTF-8 file.") from None
