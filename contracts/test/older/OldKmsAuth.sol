// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAppAuth} from "../../src/IAppAuth.sol";

/// @dev The shape of dstack's first registries, for readers' tests: applications are entries with a controller, their
/// ids are derived and no contracts, and the gateway is called tproxy. The question about a guest is today's.
contract OldKmsAuth {
    struct AppConfig {
        bool isRegistered;
        address controller;
    }

    address public owner = msg.sender;
    string public tproxyAppId;
    mapping(address appId => AppConfig config) public apps;
    mapping(bytes32 mrImage => bool allowed) public allowedImages;
    mapping(address sender => uint256 count) public nextAppSequence;

    event AppRegistered(address appId);
    event ImageRegistered(bytes32 mrImage);
    event ImageDeregistered(bytes32 mrImage);
    event TproxyAppIdSet(string tproxyAppId);

    modifier onlyOwner() {
        require(msg.sender == owner, "not the owner");
        _;
    }

    function setTproxyAppId(string calldata appId) external onlyOwner {
        tproxyAppId = appId;
        emit TproxyAppIdSet(appId);
    }

    function registerImage(bytes32 image) external onlyOwner {
        allowedImages[image] = true;
        emit ImageRegistered(image);
    }

    function deregisterImage(bytes32 image) external onlyOwner {
        allowedImages[image] = false;
        emit ImageDeregistered(image);
    }

    function registerApp(address controller) external {
        require(controller != address(0), "Invalid controller address");
        address appId = nextAppId();
        nextAppSequence[msg.sender]++;
        apps[appId] = AppConfig(true, controller);
        emit AppRegistered(appId);
    }

    function nextAppId() public view returns (address) {
        bytes32 hash = keccak256(abi.encodePacked(address(this), msg.sender, nextAppSequence[msg.sender]));
        return address(uint160(uint256(hash)));
    }

    function isAppAllowed(IAppAuth.AppBootInfo calldata bootInfo) external view returns (bool, string memory) {
        AppConfig memory config = apps[bootInfo.appId];
        if (!config.isRegistered) return (false, "App not registered");
        if (!allowedImages[bootInfo.osImageHash]) return (false, "OS image is not allowed");
        return IAppAuth(config.controller).isAppAllowed(bootInfo);
    }
}
