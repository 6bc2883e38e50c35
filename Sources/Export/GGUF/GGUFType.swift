import ModelFiles

/// What a GGUF stores weights as, by the names of llama.cpp's types of files.
public enum GGUFType: String, Sendable, CaseIterable {
  case f32, f16, bf16, q8_0, q6_k, q5_k_m, q4_k_m, q4_0

  /// The names, for messages.
  public static let names = allCases.map(\.rawValue).joined(separator: ", ")

  /// Whether every number is stored by itself.
  public var holdsFloats: Bool { format.block.length == 1 }

  /// `general.file_type`: llama.cpp's number of the type.
  var fileType: UInt32 {
    switch self {
    case .f32: 0
    case .f16: 1
    case .q4_0: 2
    case .q8_0: 7
    case .q4_k_m: 15
    case .q5_k_m: 17
    case .q6_k: 18
    case .bf16: 32
    }
  }

  /// What most matrices become.
  var format: StorageFormat {
    switch self {
    case .f32: .float32
    case .f16: .float16
    case .bf16: .bfloat16
    case .q8_0: .q8_0
    case .q6_k: .q6_K
    case .q5_k_m: .q5_K
    case .q4_k_m: .q4_K
    case .q4_0: .q4_0
    }
  }

  /// What a tensor of llama.cpp's name becomes, as llama.cpp's own quantizer chooses (`llama-quant.cpp`, July 2026).
  ///
  /// - Parameters:
  ///   - layerCount: How many blocks the model has.
  ///   - isTied: Whether the head is the embedding.
  ///   - sharesValues: Whether eight heads share one of keys and values in a model of 80 blocks: a Llama of 70 billion
  ///     weights, whose values are few enough to be stored better.
  func format(
    of name: String, shape: [Int], layerCount: Int, isTied: Bool, sharesValues: Bool = false
  ) -> StorageFormat {
    // Norms and biases count a lot and take little.
    guard shape.count > 1, name.hasSuffix("weight"), !name.hasSuffix("_norm.weight") else { return .float32 }
    var chosen = format
    guard chosen.block.length > 1 else { return chosen }
    let width = shape.last ?? 1
    let parts = name.split(separator: ".")
    let part = parts.count == 4 ? parts[2] : parts[0]
    let layer = parts.count == 4 ? Int(parts[1]) ?? 0 : 0
    let isMixed = self == .q4_k_m || self == .q5_k_m
    switch part {
    case "output", "token_embd":
      guard part == "output" || isTied else { break }
      chosen = width % chosen.block.length != 0 || chosen == .q8_0 ? .q8_0 : .q6_K
    case "attn_v", "attn_qkv":
      if isMixed, Self.isSensitive(layer, of: layerCount) { chosen = .q6_K }
      if sharesValues, chosen == .q4_K { chosen = .q5_K }
    case "ffn_down": if isMixed, Self.isSensitive(layer, of: layerCount) { chosen = .q6_K }
    default: break
    }
    return Self.fitting(chosen, width: width)
  }

  /// The blocks at both ends, and every third between, lose most when they are quantized.
  private static func isSensitive(_ layer: Int, of count: Int) -> Bool {
    layer < count / 8 || layer >= 7 * count / 8 || (layer - count / 8) % 3 == 2
  }

  /// A format whose blocks the rows are made of: the same, or the next one with blocks of 32.
  static func fitting(_ format: StorageFormat, width: Int) -> StorageFormat {
    if width % format.block.length == 0 { return format }
    let other: StorageFormat =
      switch format {
      case .q4_K: .q5_0
      case .q5_K: .q5_1
      case .q6_K: .q8_0
      default: .float16
      }
    return width % other.block.length == 0 ? other : .float16
  }
}
