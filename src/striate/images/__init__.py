"""Pictures in: readers of every source, the decoder, and the store of fixed-size pictures."""

from striate.images.importing import ImportCounts as ImportCounts
from striate.images.importing import import_images as import_images
from striate.images.importing import total_counts as total_counts
from striate.images.items import ArraySource as ArraySource
from striate.images.items import Item as Item
from striate.images.items import Rejected as Rejected
from striate.images.store import ImageStore as ImageStore
from striate.images.writer import StoreWriter as StoreWriter
