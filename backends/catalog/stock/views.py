from backends.catalog import rest
from backends.catalog.stock.forms import LevelForm


class LevelList(rest.ListView):
    form, item_url, order = LevelForm, "level", "id"
    conflict = "This product has a stock level in this warehouse already."


class LevelItem(rest.ItemView):
    form, item_url, order = LevelForm, "level", "id"
    conflict = "This product has another stock level in this warehouse."
