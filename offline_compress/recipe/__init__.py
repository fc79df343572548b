# SPDX-License-Identifier: Apache-2.0
"""Recipes: one YAML file that drives compression, redundancy elimination and specialisation as one run."""
