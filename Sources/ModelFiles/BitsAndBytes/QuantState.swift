import JSONValues

/// What bitsandbytes writes beside the parts of a quantized matrix, as JSON in a tensor of bytes.
struct QuantState {
  let shape: [Int]
  let blockLength: Int
  let originalFormat: StorageFormat
  /// How the absmax values were quantized; nil where they were not.
  let nested: (blockLength: Int, offset: Float)?

  /// What the key of a quantized matrix ends in.
  static let suffix = ".quant_state.bitsandbytes__nf4"

  private static let largestByteCount = 1 << 16
  private static let formats: [String: StorageFormat] = [
    "float32": .float32, "bfloat16": .bfloat16, "float16": .float16,
  ]

  init(_ tensor: StoredTensor) throws(ModelFileError) {
    func wrong(_ message: String) -> ModelFileError {
      ModelFileError(tensor.file.path, "tensor \(quoted(tensor.name)) \(message)")
    }
    guard tensor.format == .uint8, let bytes = tensor.bytes, bytes.count <= Self.largestByteCount else {
      throw wrong("is \(tensor.format.name) \(tensor.shape), the bytes of a small JSON text were expected")
    }
    let json: JSONValue
    do throws(JSONError) {
      json = try JSONValue.parse(bytes, options: JSONParsingOptions(maximumDepth: 8))
    } catch {
      throw wrong("is damaged: \(error)")
    }
    func size(_ key: String) throws(ModelFileError) -> Int {
      guard let value = json[key]?.integer, value > 0, value <= 1 << 20 else {
        throw wrong("has no \(key) that is a size of blocks")
      }
      return value
    }
    if let type = json["quant_type"]?.string, type != "nf4" {
      throw wrong("says quant_type \(quoted(type)), nf4 was expected")
    }
    guard let dimensions = json["shape"]?.array, case let shape = dimensions.compactMap(\.integer),
      shape.count == dimensions.count, !shape.isEmpty, shape.count <= 8, !shape.contains(where: { $0 <= 0 })
    else {
      throw wrong("has no shape of positive whole numbers")
    }
    self.shape = shape
    blockLength = try size("blocksize")
    guard let name = json["dtype"]?.string, let format = Self.formats[name] else {
      throw wrong("has no dtype that is float32, bfloat16 or float16")
    }
    originalFormat = format
    guard let offset = json["nested_offset"], !offset.isNull else {
      nested = nil
      return
    }
    guard let number = offset.double, Float(number).isFinite else {
      throw wrong("has a nested_offset that is no number")
    }
    nested = (blockLength: try size("nested_blocksize"), offset: Float(number))
  }

  /// The bytes of the JSON that bitsandbytes reads.
  static func bytes(shape: [Int], originalFormat: StorageFormat, nestedOffset: Float) -> [UInt8] {
    let type = formats.first { $0.value == originalFormat }?.key ?? "float32"
    let object: JSONObject = [
      "quant_type": "nf4", "blocksize": .integer(NF4Encoder.blockLength), "dtype": .string(type),
      "shape": .array(shape.map { .integer($0) }),
      "nested_blocksize": .integer(DoubleQuantizedAbsmax.blockLength), "nested_dtype": "float32",
      "nested_offset": .number(Double(nestedOffset)),
    ]
    return JSONValue.object(object).serializedBytes(.compact)
  }
}
