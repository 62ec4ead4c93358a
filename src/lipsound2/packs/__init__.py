"""Packs: trained models as folders of configuration, safetensors, checksums and a card."""

from lipsound2.packs.pack import Pack, PackInfo, find_pack, list_packs, write_pack

__all__ = ["Pack", "PackInfo", "find_pack", "list_packs", "write_pack"]
