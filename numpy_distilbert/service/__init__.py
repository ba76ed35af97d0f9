"""Questions over HTTP, answered together when several are waiting, and a web page to ask them on."""
