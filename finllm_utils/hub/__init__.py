"""The central hub: tools, router and answers with their source."""
