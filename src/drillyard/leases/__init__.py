"""Machines and money: the ledger, leases, budgets, and the reaper."""
