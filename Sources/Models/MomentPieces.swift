import Tensors

/// How an optimizer's moments lie in the host's memory: in pieces, which pass through places on the device.
package enum MomentPieces {
  /// Elements of a piece: whole blocks of moments in 8 bits.
  package static let length = 4 << 20
  /// Places on the device that pieces pass through.
  package static let places = 2

  /// Bytes of the moments of so many parameters, as they lie in a place.
  package static func byteCount(_ count: Int, isQuantized: Bool) -> Int {
    isQuantized ? 2 * (aligned(count) + aligned(scales(of: count) * 4)) : 2 * aligned(count * 4)
  }

  /// Blocks of moments in 8 bits, each with a scale.
  package static func scales(of count: Int) -> Int {
    (count + QuantizedMoments.blockLength - 1) / QuantizedMoments.blockLength
  }

  /// Where the next array may begin.
  package static func aligned(_ bytes: Int) -> Int { (bytes + 255) / 256 * 256 }
}
