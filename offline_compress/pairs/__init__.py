# SPDX-License-Identifier: Apache-2.0
"""Images with captions as users have them: a folder, a COCO json, the Flickr8k layout; and batches made of them."""
