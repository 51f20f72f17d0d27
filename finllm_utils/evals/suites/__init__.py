"""The suites of the report card: what any model of the table is asked, item by item."""
