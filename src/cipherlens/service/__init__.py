"""The provider's service: transfers, data sets and jobs over HTTP. Nothing here can decrypt, or imports what can."""
