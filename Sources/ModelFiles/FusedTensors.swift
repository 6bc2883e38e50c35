/// The tensors in which Phi-3 keeps several projections, one above the other.
public enum FusedTensors {
  /// Each with the projections in the order of its rows.
  public static let parts: [(name: String, modules: [TargetModule])] = [
    ("qkv_proj", [.query, .key, .value]), ("gate_up_proj", [.gate, .up]),
  ]

  /// The tensors with each fused one replaced by its parts, slices of the same bytes under a Llama's names.
  static func split(
    _ tensors: [StoredTensor], _ configuration: ModelConfiguration, path: String
  ) throws(ModelFileError) -> [StoredTensor] {
    var result: [StoredTensor] = []
    for tensor in tensors {
      guard let (prefix, suffix, modules) = fused(tensor.name) else {
        result.append(tensor)
        continue
      }
      let sizes = modules.map { configuration.size(of: $0).outputs }
      let total = sizes.reduce(0, +)
      guard tensor.shape.first == total else {
        throw ModelFileError(
          tensor.file.path,
          "tensor \(quoted(tensor.name)) has the shape \(tensor.shape), but the configuration asks for \(total) rows: "
            + zip(modules, sizes).map { "\($1) of \($0.rawValue)" }.joined(separator: ", "))
      }
      var start = 0
      for (module, size) in zip(modules, sizes) {
        guard let part = tensor.slice(start..<start + size, name: prefix + module.rawValue + suffix) else {
          throw ModelFileError(
            tensor.file.path, "tensor \(quoted(tensor.name)) is stored as \(tensor.format.name), which cannot be cut")
        }
        result.append(part)
        start += size
      }
    }
    var seen: Set<String> = []
    for tensor in result where !seen.insert(tensor.name).inserted {
      throw ModelFileError(path, "tensor \(quoted(tensor.name)) appears twice, fused with others and by itself")
    }
    return result
  }

  /// The fused tensor that a weight under a Llama's name belongs to, with the projections in it; `nil` for none.
  public static func place(of name: String) -> (name: String, modules: [TargetModule])? {
    for (fused, modules) in parts {
      for module in modules where name.hasSuffix(".\(module.rawValue).weight") {
        return (name.replacing(".\(module.rawValue).", with: ".\(fused)."), modules)
      }
    }
    return nil
  }

  /// What stands before and after the projection's name, and the projections that a name stands for.
  private static func fused(_ name: String) -> (prefix: String, suffix: String, modules: [TargetModule])? {
    for (fused, modules) in parts {
      for suffix in [".weight", ".bias"] where name.hasSuffix(".\(fused)\(suffix)") {
        return (String(name.dropLast(fused.count + suffix.count)), suffix, modules)
      }
    }
    return nil
  }
}
