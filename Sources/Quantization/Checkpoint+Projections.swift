import ModelFiles

extension Checkpoint {
  /// Refuses a model at `path` that is stored in NF4: quantizing it again would lose twice.
  func requireWeightsBesideNF4(_ path: String) throws {
    if let tensor = try tensorNames.lazy.map({ try self.tensor($0) }).first(where: { $0.nf4 != nil }) {
      throw ModelFileError(
        path,
        "this model is quantized already (\(tensor.name) is stored as NF4); give the one with the original weights")
    }
  }

  /// The projections whose weights tensors are, by the tensors' names.
  var projectionWeights: [String: (layer: Int, module: TargetModule)] {
    var places: [String: (layer: Int, module: TargetModule)] = [:]
    for layer in 0..<configuration.layerCount {
      for module in TargetModule.allCases { places[module.path(layer: layer) + ".weight"] = (layer, module) }
    }
    return places
  }
}
