"""The dashboard's parts: state and widgets in, engine results out as charts and escaped text."""
