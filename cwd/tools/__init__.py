"""Apparatus around the replication: reproduce, report, plan, rehearse, bench, jobs."""
