import Tensors

/// Puts the tensors in which bitsandbytes stores a quantized matrix together again.
///
/// Beside `X.weight`, which holds the codes, lie `X.weight.absmax`, `X.weight.quant_map`,
/// `X.weight.quant_state.bitsandbytes__nf4` and, with double quantization, `X.weight.nested_absmax` and
/// `X.weight.nested_quant_map`; in several files, they may be in different ones.
enum BitsAndBytesTensors {
  private static let plainParts = [".absmax", ".quant_map", QuantState.suffix]
  private static let nestedParts = [".nested_absmax", ".nested_quant_map"]
  private static let floatingPointState = ".quant_state.bitsandbytes__fp4"

  /// The tensors with each quantized matrix as one, of the shape that it had.
  static func gather(_ tensors: [StoredTensor]) throws(ModelFileError) -> [StoredTensor] {
    if let tensor = tensors.first(where: { $0.name.hasSuffix(floatingPointState) }) {
      throw ModelFileError(
        tensor.file.path,
        "tensor \(quoted(String(tensor.name.dropLast(floatingPointState.count)))) is stored as FP4, which is not "
          + "supported; quantize the original weights to NF4")
    }
    let all = Dictionary(tensors.map { ($0.name, $0) }) { first, _ in first }
    var parts: Set<String> = []
    var matrices: [String: StoredTensor] = [:]
    for tensor in tensors where tensor.name.hasSuffix(QuantState.suffix) {
      let name = String(tensor.name.dropLast(QuantState.suffix.count))
      matrices[name] = try matrix(name, all)
      parts.formUnion((plainParts + nestedParts).map { name + $0 })
    }
    var result: [StoredTensor] = []
    for tensor in tensors where !parts.contains(tensor.name) {
      if tensor.name.hasSuffix(".weight.absmax") {
        throw ModelFileError(
          tensor.file.path,
          "tensor \(quoted(tensor.name)) belongs to a quantized matrix, but \(quoted(QuantState.suffix)) of it is missing"
        )
      }
      result.append(matrices[tensor.name] ?? tensor)
    }
    return result
  }

  private static func matrix(
    _ name: String, _ all: [String: StoredTensor]
  ) throws(ModelFileError) -> StoredTensor {
    guard let stateTensor = all[name + QuantState.suffix] else { throw ModelFileError(name, "has no quant_state") }
    let state = try QuantState(stateTensor)
    func wrong(_ message: String) -> ModelFileError {
      ModelFileError(stateTensor.file.path, "tensor \(quoted(name)) \(message)")
    }
    func part(_ suffix: String, _ format: StorageFormat?, byteCount: Int) throws(ModelFileError) -> StoredTensor {
      guard let tensor = all[name + suffix] else {
        throw wrong("is quantized, but \(quoted(name + suffix)) is missing; fetch the model again")
      }
      // The codes may be stored as any type of as many bytes (bnb_4bit_quant_storage).
      guard format == nil || tensor.format == format, tensor.range.count == byteCount else {
        throw ModelFileError(
          tensor.file.path,
          "tensor \(quoted(tensor.name)) is \(tensor.format.name) \(tensor.shape), but the matrix \(state.shape) in blocks "
            + "of \(state.blockLength) needs \(byteCount) bytes\(format.map { " of \($0.name)" } ?? "")")
      }
      return tensor
    }
    func bytes(_ tensor: StoredTensor) -> NF4Storage.Part { NF4Storage.Part(file: tensor.file, range: tensor.range) }

    guard let count = elementCount(state.shape) else { throw wrong("has a size, \(state.shape), that leaves 64 bits") }
    let codes = try part("", nil, byteCount: count / 2 + count % 2)
    let blocks = count / state.blockLength + (count % state.blockLength == 0 ? 0 : 1)
    let values = try part(".quant_map", .float32, byteCount: 64).decoded()
    guard zip(values, NF4.values).allSatisfy({ abs($0 - $1) < 1e-6 }) else {
      throw wrong("has a quant_map that is not NF4's")
    }
    let absmax: NF4Storage.Absmax
    if let nested = state.nested {
      let scaleCount = blocks / nested.blockLength + (blocks % nested.blockLength == 0 ? 0 : 1)
      let map = try part(".nested_quant_map", .float32, byteCount: 1024).decoded()
      guard map.allSatisfy(\.isFinite) else { throw wrong("has a nested_quant_map of values that are no numbers") }
      absmax = .nested(
        codes: bytes(try part(".absmax", .uint8, byteCount: blocks)),
        scales: bytes(try part(".nested_absmax", .float32, byteCount: 4 * scaleCount)), map: map,
        offset: nested.offset, blockLength: nested.blockLength)
    } else {
      if let extra = nestedParts.first(where: { all[name + $0] != nil }) {
        throw wrong("has \(quoted(name + extra)), but its quant_state knows of no double quantization")
      }
      absmax = .plain(bytes(try part(".absmax", .float32, byteCount: 4 * blocks)))
    }
    return StoredTensor(
      name: name, shape: state.shape, format: .nf4, file: codes.file, range: codes.range,
      nf4: NF4Storage(
        codes: bytes(codes), absmax: absmax, blockLength: state.blockLength, originalFormat: state.originalFormat))
  }
}
