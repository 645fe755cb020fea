"""Which packages the wheel has: configs/ stays at the top of the repository and becomes simpropnet_jax/configs/."""

from setuptools import find_packages, setup

RECIPES = 'simpropnet_jax.configs'

setup(
    packages=[*find_packages(include=['simpropnet_jax*']), RECIPES],
    package_dir={RECIPES: 'configs'},
)
