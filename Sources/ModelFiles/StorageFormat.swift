import CBlockFormats

/// How the numbers of a tensor are stored in a file.
public enum StorageFormat: String, Sendable, CaseIterable {
  case float64 = "F64"
  case float32 = "F32"
  case float16 = "F16"
  case bfloat16 = "BF16"
  case float8e4m3 = "F8_E4M3"
  case float8e5m2 = "F8_E5M2"
  case int64 = "I64"
  case int32 = "I32"
  case int16 = "I16"
  case int8 = "I8"
  case uint64 = "U64"
  case uint32 = "U32"
  case uint16 = "U16"
  case uint8 = "U8"
  case bool = "BOOL"
  case q4_0 = "Q4_0"
  case q4_1 = "Q4_1"
  case q5_0 = "Q5_0"
  case q5_1 = "Q5_1"
  case q8_0 = "Q8_0"
  case q8_1 = "Q8_1"
  case q2_K = "Q2_K"
  case q3_K = "Q3_K"
  case q4_K = "Q4_K"
  case q5_K = "Q5_K"
  case q6_K = "Q6_K"
  case q8_K = "Q8_K"
  case iq1_S = "IQ1_S"
  case iq1_M = "IQ1_M"
  case iq2_XXS = "IQ2_XXS"
  case iq2_XS = "IQ2_XS"
  case iq2_S = "IQ2_S"
  case iq3_XXS = "IQ3_XXS"
  case iq3_S = "IQ3_S"
  case iq4_NL = "IQ4_NL"
  case iq4_XS = "IQ4_XS"
  case tq1_0 = "TQ1_0"
  case tq2_0 = "TQ2_0"
  case mxfp4 = "MXFP4"
  case nvfp4 = "NVFP4"
  case q1_0 = "Q1_0"
  /// bitsandbytes' four bits; a matrix consists of several tensors (``NF4Storage``).
  case nf4 = "NF4"

  /// The name that its files use.
  public var name: String { rawValue }

  /// How many elements a block holds and how many bytes it takes; 1 element where there are no blocks.
  public var block: (length: Int, byteCount: Int) {
    switch self {
    case .float64, .int64, .uint64: (1, 8)
    case .float32, .int32, .uint32: (1, 4)
    case .float16, .bfloat16, .int16, .uint16: (1, 2)
    case .float8e4m3, .float8e5m2, .int8, .uint8, .bool: (1, 1)
    case .q4_0, .iq4_NL: (32, 18)
    case .q4_1: (32, 20)
    case .q5_0: (32, 22)
    case .q5_1: (32, 24)
    case .q8_0: (32, 34)
    case .q8_1: (32, 40)
    case .q2_K: (256, 84)
    case .q3_K: (256, 110)
    case .q4_K: (256, 144)
    case .q5_K: (256, 176)
    case .q6_K: (256, 210)
    case .q8_K: (256, 292)
    case .iq1_S: (256, 50)
    case .iq1_M: (256, 56)
    case .iq2_XXS: (256, 66)
    case .iq2_XS: (256, 74)
    case .iq2_S: (256, 82)
    case .iq3_XXS: (256, 98)
    case .iq3_S: (256, 110)
    case .iq4_XS: (256, 136)
    case .tq1_0: (256, 54)
    case .tq2_0: (256, 66)
    case .mxfp4: (32, 17)
    case .nvfp4: (64, 36)
    case .q1_0: (128, 18)
    case .nf4: (2, 1)
    }
  }

  /// Whether tensors of this format can be decoded to floats.
  public var isDecodable: Bool { self == .float32 || self == .nf4 || decoder != nil }

  /// The formats that can be decoded, for messages.
  static let decodableNames = allCases.filter(\.isDecodable).map(\.name).joined(separator: ", ")

  /// Decodes blocks to fp32; `nil` for fp32 itself, for NF4 and for what cannot be decoded.
  var decoder: sl_block_decoder? {
    switch self {
    case .float64: sl_decode_f64
    case .float16: sl_decode_f16
    case .bfloat16: sl_decode_bf16
    case .q4_0: sl_decode_q4_0
    case .q4_1: sl_decode_q4_1
    case .q5_0: sl_decode_q5_0
    case .q5_1: sl_decode_q5_1
    case .q8_0: sl_decode_q8_0
    case .q2_K: sl_decode_q2_k
    case .q3_K: sl_decode_q3_k
    case .q4_K: sl_decode_q4_k
    case .q5_K: sl_decode_q5_k
    case .q6_K: sl_decode_q6_k
    default: nil
    }
  }

  /// Whether it holds floating-point numbers of 16 bits or more, one by one.
  public var isFloat: Bool { [.float64, .float32, .float16, .bfloat16].contains(self) }

  /// The bytes of a tensor; `nil` when its rows are no whole blocks or a product leaves 64 bits.
  func byteCount(shape: [Int]) -> Int? {
    let block = block
    guard (shape.last ?? 1) % block.length == 0, let elements = elementCount(shape) else { return nil }
    let (bytes, overflow) = (elements / block.length).multipliedReportingOverflow(by: block.byteCount)
    return overflow ? nil : bytes
  }
}

/// The product of the dimensions; `nil` when one is negative or the product leaves 64 bits.
func elementCount(_ shape: [Int]) -> Int? {
  // Zeros first, so that what stands before a zero cannot overflow.
  if shape.contains(where: { $0 < 0 }) { return nil }
  if shape.contains(0) { return 0 }
  var count = 1
  for dimension in shape {
    let (product, overflow) = count.multipliedReportingOverflow(by: dimension)
    if overflow { return nil }
    count = product
  }
  return count
}
