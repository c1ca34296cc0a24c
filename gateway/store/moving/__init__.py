"""Moving tenants' documents from one store to another while gateways serve them."""
