"""The library that the stages in src/ share: data contract, model, export and evaluation."""
