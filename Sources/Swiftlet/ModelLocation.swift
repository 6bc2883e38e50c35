import Glibc
import Hub

/// Where a model lies: what a user names is a folder, a `.gguf` file, or a repository of the hub.
public enum ModelLocation {
  /// The path of the model that `name` means; what the cache lacks of a repository is fetched first.
  ///
  /// A path that exists wins over a repository of the same name.
  public static func resolve(
    _ name: String, hub: HuggingFaceHub = HuggingFaceHub(),
    isCancelled: @escaping @Sendable () -> Bool = { false }, onRemark: (String) -> Void = { _ in },
    onProgress: (HubProgress) -> Void = { _ in }
  ) throws -> String {
    guard access(name, F_OK) != 0, let repository = repository(name) else { return name }
    do {
      return try hub.pull(repository, isCancelled: isCancelled, onRemark: onRemark, onProgress: onProgress)
    } catch let error as HubError where error.isAboutTheModel {
      throw ModelError("there is no file or folder '\(name)' here; on the hub: \(error)")
    }
  }

  /// The repository that a name can mean: `OWNER/NAME`, not a path.
  private static func repository(_ name: String) -> RepositoryName? {
    if name.hasPrefix("/") || name.hasPrefix(".") || name.hasPrefix("~") { return nil }
    return RepositoryName(name).flatMap { $0.id.contains("/") ? $0 : nil }
  }
}
