"""hypothesis for the property tests; where it is not installed, they skip themselves and the rest of a module runs."""

try:
    from hypothesis import HealthCheck, example, given, settings
    from hypothesis import strategies as st

    settings.register_profile("project", deadline=None, derandomize=True)
    settings.load_profile("project")
except ImportError:
    import pytest

    class Anything:
        """A strategy, or whatever is made of strategies: it is never drawn from."""

        def __getattr__(self, _):
            return self

        def __call__(self, *_, **__):
            return self

        def __or__(self, _):
            return self

    HealthCheck = st = Anything()

    def given(*_, **__):
        return pytest.mark.skip(reason="needs hypothesis, of the extra 'test'")

    def settings(*_, **__):
        return lambda test: test

    example = settings

__all__ = ["HealthCheck", "example", "given", "settings", "st"]
