"""A feed that ends when somebody has asked for it."""

from partialnas.search.executor import END, End, Feed, Item, Outcome, Wait
from partialnas.search.stopping import Stop


class Stoppable(Feed[Item]):
    """Passes items and outcomes on until somebody asks the run to end.

    Attributes:
        cut: whether the feed was ended before its time.
    """

    def __init__(self, feed: Feed[Item], stop: Stop) -> None:
        self._feed = feed
        self._stop = stop
        self.cut = False

    def ask(self) -> Item | Wait | End:
        """The feed's next item, while nobody has asked the run to end."""
        if not self._stop.asked:
            return self._feed.ask()
        self.cut = True
        return END

    def tell(self, item: Item, outcome: Outcome) -> None:
        """Passes the outcome on."""
        self._feed.tell(item, outcome)
