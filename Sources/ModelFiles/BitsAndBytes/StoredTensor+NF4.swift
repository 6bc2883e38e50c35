import Tensors

extension StoredTensor {
  /// The matrix as a device takes it that keeps NF4; nil where it is not stored so, in other blocks than bitsandbytes' own,
  /// or in rows that are no whole blocks.
  public var nf4Blocks: NF4Blocks? {
    guard let nf4, nf4.blockLength == NF4Blocks.blockLength, count > 0,
      nf4.firstElement % NF4Blocks.blockLength == 0, rowLength % NF4Blocks.blockLength == 0
    else { return nil }
    let blocks = nf4.firstElement / NF4Blocks.blockLength..<(nf4.firstElement + count) / NF4Blocks.blockLength
    let codes = part(nf4.codes, nf4.firstElement / 2..<(nf4.firstElement + count) / 2)
    switch nf4.absmax {
    case .plain(let values):
      return NF4Blocks(codes: codes, absmax: .plain(part(values, 4 * blocks.lowerBound..<4 * blocks.upperBound)))
    case .nested(let bytes, let scales, let map, let offset, let length):
      guard length == NF4Blocks.nestedBlockLength else { return nil }
      let first = blocks.lowerBound / length
      let end = (blocks.upperBound + length - 1) / length
      return NF4Blocks(
        codes: codes,
        absmax: .nested(
          codes: part(bytes, blocks), nested: part(scales, 4 * first..<4 * end), map: map, offset: offset,
          first: blocks.lowerBound % length))
    }
  }

  private func part(_ part: NF4Storage.Part, _ range: Range<Int>) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: part.bytes[range])
  }
}
