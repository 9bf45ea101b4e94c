// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title What this registry can do beyond dstack's
/// @notice Its ERC-165 id tells the two apart.
interface IKmsAuthManagement {
    /// @notice An application is no longer known.
    /// @param appId The application's id.
    event AppDeregistered(address appId);

    /// @notice Makes an application unknown: from this block on it is refused everywhere, whatever its own contract
    /// says, and its live sessions are cut. Others can no longer register it; the owner can, which restores it with all
    /// of its
    /// own rules. An application that was never registered can be barred in advance.
    /// @dev Guests that run already keep the keys that they were given: only what asks again learns of it.
    /// @param appId The application's id; not zero.
    function deregisterApp(address appId) external;

    /// @notice Whether the owner has deregistered an application and not registered it since.
    /// @param appId The application's id.
    /// @return deregistered True if only the owner can register it.
    function deregisteredApps(address appId) external view returns (bool deregistered);

    /// @notice Allows operating system images; all or none.
    /// @param osImageHashes The images' hashes.
    function addOsImageHashes(bytes32[] calldata osImageHashes) external;

    /// @notice Forbids operating system images until they are added again; all or none.
    /// @param osImageHashes The images' hashes.
    function removeOsImageHashes(bytes32[] calldata osImageHashes) external;
}
