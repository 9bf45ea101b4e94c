// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAppAuth} from "../../src/IAppAuth.sol";
import {ClusterMember} from "./ClusterMember.sol";

/// @dev The rules of a cluster as a facet: runs by delegatecall on the diamond's storage, and so logs as the diamond.
contract ClusterBootGate {
    struct Rules {
        address owner;
        bool paused;
        bool allowAnyDevice;
        uint256 destroyedAt;
        mapping(address passthrough => bool known) members;
        mapping(bytes32 composeHash => bool allowed) composeHashes;
        mapping(bytes32 deviceId => bool allowed) devices;
    }

    bytes32 private constant SLOT = keccak256("postern.test.cluster");

    event ComposeHashAdded(bytes32 composeHash);
    event ComposeHashRemoved(bytes32 composeHash);
    event DeviceAdded(bytes32 deviceId);
    event DeviceRemoved(bytes32 deviceId);
    event AllowAnyDeviceSet(bool allowAny);
    event Paused(address account);
    event Unpaused(address account);
    event MemberMinted(address indexed passthrough);
    event ClusterDestroyed(uint256 timestamp);

    modifier onlyOwner() {
        require(msg.sender == rules().owner, "not the owner");
        _;
    }

    /// @dev Called once, by the diamond's constructor; it is no function of the diamond.
    function take(address owner_) external {
        rules().owner = owner_;
    }

    function mint() external onlyOwner returns (address member) {
        member = address(new ClusterMember(address(this)));
        rules().members[member] = true;
        emit MemberMinted(member);
    }

    function addComposeHash(bytes32 composeHash) external onlyOwner {
        rules().composeHashes[composeHash] = true;
        emit ComposeHashAdded(composeHash);
    }

    function removeComposeHash(bytes32 composeHash) external onlyOwner {
        rules().composeHashes[composeHash] = false;
        emit ComposeHashRemoved(composeHash);
    }

    function addDevice(bytes32 deviceId) external onlyOwner {
        rules().devices[deviceId] = true;
        emit DeviceAdded(deviceId);
    }

    function removeDevice(bytes32 deviceId) external onlyOwner {
        rules().devices[deviceId] = false;
        emit DeviceRemoved(deviceId);
    }

    function setAllowAnyDevice(bool allowAny) external onlyOwner {
        rules().allowAnyDevice = allowAny;
        emit AllowAnyDeviceSet(allowAny);
    }

    function pause() external onlyOwner {
        rules().paused = true;
        emit Paused(msg.sender);
    }

    function unpause() external onlyOwner {
        rules().paused = false;
        emit Unpaused(msg.sender);
    }

    function destroy() external onlyOwner {
        rules().destroyedAt = block.timestamp;
        emit ClusterDestroyed(block.timestamp);
    }

    function owner() external view returns (address) {
        return rules().owner;
    }

    function isOurPassthrough(address passthrough) external view returns (bool) {
        return rules().members[passthrough];
    }

    function dstack_isAppAllowed(IAppAuth.AppBootInfo calldata bootInfo)
        external
        view
        returns (bool isAllowed, string memory reason)
    {
        Rules storage all = rules();
        if (all.destroyedAt != 0) return (false, "cluster destroyed");
        if (all.paused) return (false, "cluster paused");
        if (!all.members[bootInfo.appId]) return (false, "unknown passthrough");
        if (!all.composeHashes[bootInfo.composeHash]) return (false, "compose hash not allowed");
        if (!all.allowAnyDevice && !all.devices[bootInfo.deviceId]) return (false, "device not allowed");
        return (true, "");
    }

    function selectors() external pure returns (bytes4[] memory all) {
        all = new bytes4[](12);
        all[0] = this.mint.selector;
        all[1] = this.addComposeHash.selector;
        all[2] = this.removeComposeHash.selector;
        all[3] = this.addDevice.selector;
        all[4] = this.removeDevice.selector;
        all[5] = this.setAllowAnyDevice.selector;
        all[6] = this.pause.selector;
        all[7] = this.unpause.selector;
        all[8] = this.destroy.selector;
        all[9] = this.owner.selector;
        all[10] = this.isOurPassthrough.selector;
        all[11] = this.dstack_isAppAllowed.selector;
    }

    function rules() private pure returns (Rules storage all) {
        bytes32 slot = SLOT;
        assembly ("memory-safe") {
            all.slot := slot
        }
    }
}
