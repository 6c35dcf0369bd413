"""The base of all other packages: JSON values, recorded failures, validation, versions and limits."""
