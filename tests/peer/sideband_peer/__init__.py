# SPDX-License-Identifier: Apache-2.0
"""Both endpoints of the Sideband protocol, written from the specification alone."""
