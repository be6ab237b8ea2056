"""Everything that is refused or warned of before money is spent."""
