"""Search: spaces into Optuna studies, the measuring protocol, isolated workers, the sweep, and export of tables."""
