"""What makes a ledger one of an older release."""

INDEXES = "".join(f"DROP INDEX claim_{name}; " for name in ("place", "connection", "sharer"))
TO_2 = f"DROP TABLE child; {INDEXES}PRAGMA user_version = 2;"
BEFORE = {
    1: f"{TO_2} DROP TABLE carries; DROP TABLE probe; DROP INDEX want_place; PRAGMA user_version = 1",
    2: TO_2,
    3: "PRAGMA user_version = 3",
}
