import Glibc
import ModelFiles

/// The Hugging Face hub: fetches what is missing of a repository into the cache that Hugging Face's own tools use.
///
/// Every byte is hashed before a file gets its name; what an interrupted run fetched is kept and completed.
public struct HuggingFaceHub: Sendable {
  /// Where the hub is, and what this machine keeps.
  public let environment: HubEnvironment
  /// How hard a download tries.
  public let options: HubOptions

  /// A hub as this process's environment describes it, unless another is given.
  public init(environment: HubEnvironment = HubEnvironment(), options: HubOptions = HubOptions()) {
    self.environment = environment
    self.options = options
  }

  /// Fetches the wanted files that the cache lacks and returns the path of the snapshot's folder, or of the one file
  /// that the name means.
  /// - isCancelled: asked often, from several threads; true ends the work with an error, and keeps what is here.
  /// - onRemark: a line for the user about what goes on.
  public func pull(
    _ repository: RepositoryName, _ selection: FileSelection = FileSelection(),
    isCancelled: @escaping @Sendable () -> Bool = { false }, onRemark: (String) -> Void = { _ in },
    onProgress: (HubProgress) -> Void = { _ in }
  ) throws -> String {
    let cache = HubCache(repository, in: environment.cache)
    if environment.isOffline { return try cached(cache, "HF_HUB_OFFLINE is set") }
    let answer = Result { () throws(HubError) in try list(repository, isCancelled: isCancelled) }
    // A model that is here is as good as it was yesterday.
    if case .failure(let error) = answer, error.isTransient, let path = cachedPath(repository) {
      onRemark("\(error); using what the cache has")
      return path
    }
    let listing = try answer.get()
    let files = try selection.chosen(from: listing, of: repository)
    try cache.prepare()
    try fetch(files, listing.commit, cache, isCancelled, onRemark, onProgress)
    try cache.publish(files, commit: listing.commit)
    return path(in: cache.snapshot(listing.commit), of: repository)
  }

  /// What the cache has of a repository, without asking the hub; nil when it has nothing usable.
  public func cachedPath(_ repository: RepositoryName) -> String? {
    try? cached(HubCache(repository, in: environment.cache), "")
  }

  private func list(_ repository: RepositoryName, isCancelled: @escaping @Sendable () -> Bool) throws(HubError)
    -> RepositoryListing
  {
    let requester = try HubRequester(environment: environment, options: options, isCancelled: isCancelled)
    let revision = percentEncoded(repository.revision, keepingSlashes: false)
    let url = "\(environment.endpoint)/api/models/\(repository.id)/revision/\(revision)?blobs=true"
    return try RepositoryListing(json: requester.document(url, of: repository), of: repository)
  }

  /// The snapshot that the revision stood for, if it has what a model needs.
  private func cached(_ cache: HubCache, _ reason: String) throws(HubError) -> String {
    let repository = cache.repository
    let name = repository.revision == "main" ? repository.id : "\(repository.id)@\(repository.revision)"
    guard let commit = cache.knownCommit else {
      throw HubError("\(name) is not in the cache (\(environment.cache)), and \(reason)", isAboutTheModel: true)
    }
    let result = path(in: cache.snapshot(commit), of: repository)
    guard repository.file == nil ? isFolder(result) : size(of: result) != nil else {
      throw HubError("\(name): the cache lacks '\(repository.file ?? "")', and \(reason)")
    }
    return result
  }

  private func path(in snapshot: String, of repository: RepositoryName) -> String {
    repository.file.map { "\(snapshot)/\($0)" } ?? snapshot
  }

  private func fetch(
    _ files: [RepositoryFile], _ commit: String, _ cache: HubCache, _ isCancelled: @escaping @Sendable () -> Bool,
    _ onRemark: (String) -> Void, _ onProgress: (HubProgress) -> Void
  ) throws {
    // Two paths may share one content. In one order everywhere, so that two processes never wait for each other.
    var missing: [String: RepositoryFile] = [:]
    for file in files where !cache.holds(file) { missing[file.digest.name] = file }
    try checkSpace(Array(missing.values), cache)
    var parts: [PartialFile] = []
    for (_, file) in missing.sorted(by: { $0.key < $1.key }) {
      let lock = try waitForLock(file, cache, isCancelled, onRemark)
      // Whoever held the lock may have brought the file.
      if cache.holds(file) {
        close(lock)
        continue
      }
      parts.append(try PartialFile(file, blob: cache.blob(file), partSize: options.partSize, lock: lock))
    }
    if parts.isEmpty { return }
    let download = Download(
      parts, of: cache.repository, commit: commit, environment: environment, options: options, isCancelled: isCancelled)
    try download.run(onProgress: onProgress)
    try synchronizeFolder(cache.blobs)
  }

  private func waitForLock(
    _ file: RepositoryFile, _ cache: HubCache, _ isCancelled: () -> Bool, _ onRemark: (String) -> Void
  ) throws -> Int32 {
    var isFirst = true
    while true {
      if let lock = try cache.lock(file) { return lock }
      if isFirst { onRemark("another process is fetching \(file.path); waiting for it") }
      isFirst = false
      if isCancelled() { throw HubError.cancelled }
      usleep(200_000)
    }
  }
}

/// Refuses when the cache's disk cannot take the files; what an earlier run left of them takes no more.
func checkSpace(_ files: [RepositoryFile], _ cache: HubCache) throws {
  var needed = 0
  for file in files {
    let (sum, overflow) = needed.addingReportingOverflow(
      file.size - PartialFile.reservedBytes(blob: cache.blob(file)))
    if overflow { throw HubError("\(cache.repository.id): the hub's listing names absurd sizes") }
    needed = sum
  }
  try checkFreeSpace(in: cache.blobs, for: cache.folder, byteCount: needed)
}
