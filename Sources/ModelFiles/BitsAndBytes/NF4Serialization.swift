import CBlockFormats
import Tensors

/// The tensors that bitsandbytes stores a matrix in NF4 as, with double quantization.
public enum NF4Serialization {
  /// Room for the JSON of a matrix; its length depends on the digits of the offset, and white space may follow it.
  private static func stateByteCount(_ shape: [Int], _ originalFormat: StorageFormat) -> Int {
    // The number whose shortest decimal form is the longest.
    QuantState.bytes(shape: shape, originalFormat: originalFormat, nestedOffset: 0).count + 24
  }

  /// The tensors of a matrix `[outputs, inputs]` called `name`, which ends in ".weight".
  ///
  /// `originalFormat`: fp32, bf16 or f16, what the matrix is decoded to.
  public static func entries(
    _ name: String, shape: [Int], originalFormat: StorageFormat
  ) throws(ModelFileError) -> [SafetensorsEntry] {
    guard let count = elementCount(shape) else {
      throw ModelFileError(name, "has a size, \(shape), that leaves 64 bits")
    }
    let blocks = count / NF4Encoder.blockLength + (count % NF4Encoder.blockLength == 0 ? 0 : 1)
    let length = DoubleQuantizedAbsmax.blockLength
    return [
      SafetensorsEntry(name, shape: [count / 2 + count % 2, 1], format: .uint8),
      SafetensorsEntry(name + ".absmax", shape: [blocks], format: .uint8),
      SafetensorsEntry(
        name + ".nested_absmax", shape: [blocks / length + (blocks % length == 0 ? 0 : 1)], format: .float32),
      SafetensorsEntry(name + ".nested_quant_map", shape: [256], format: .float32),
      SafetensorsEntry(name + ".quant_map", shape: [16], format: .float32),
      SafetensorsEntry(name + QuantState.suffix, shape: [stateByteCount(shape, originalFormat)], format: .uint8),
    ]
  }

  /// Writes all but the codes, which go to the tensor `name` itself.
  public static func writeState(
    _ name: String, shape: [Int], originalFormat: StorageFormat, absmax: DoubleQuantizedAbsmax,
    to writer: ShardedSafetensorsWriter
  ) throws(ModelFileError) {
    func append(_ bytes: [UInt8], _ suffix: String) throws(ModelFileError) {
      let result = bytes.withUnsafeBytes { bytes in
        Result { () throws(ModelFileError) in try writer.append(bytes, to: name + suffix) }
      }
      try result.get()
    }
    try append(absmax.codes, ".absmax")
    try writer.append(absmax.scales, to: name + ".nested_absmax")
    try writer.append(NF4.dynamicMap, to: name + ".nested_quant_map")
    try writer.append(NF4.values, to: name + ".quant_map")
    var state = QuantState.bytes(shape: shape, originalFormat: originalFormat, nestedOffset: absmax.offset)
    let room = stateByteCount(shape, originalFormat)
    guard state.count <= room else { throw ModelFileError(name, "has an offset of too many digits") }
    state += repeatElement(0x20, count: room - state.count)
    try append(state, QuantState.suffix)
  }
}
