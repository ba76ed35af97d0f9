"""Questions over HTTP, those that wait together answered together, and a page to ask them on."""
